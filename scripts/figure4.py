"""``python scripts/figure4.py checkpoint=A.ckpt other=B.ckpt data=crowd output=DIR``: two checkpoints beside the truth."""

from __future__ import annotations

from cis_seg.commands.figure4 import main

if __name__ == "__main__":
    main()
