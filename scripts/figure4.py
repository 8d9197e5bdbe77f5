"""``python scripts/figure4.py checkpoint=A.ckpt other=B.ckpt data=crowd output=DIR``: two checkpoints beside the ground truth."""

from __future__ import annotations

from cis_seg.config.commands import start

if __name__ == "__main__":
    start("figure4")
