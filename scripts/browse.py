"""``python scripts/browse.py data=... output=DIR``: training batches as the model sees them, and the ground truth, as PNG pages."""

from __future__ import annotations

from cis_seg.config.commands import start

if __name__ == "__main__":
    start("browse")
