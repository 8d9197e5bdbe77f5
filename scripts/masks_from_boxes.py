"""``python scripts/masks_from_boxes.py checkpoint=... boxes=BOXES.json images=DIR output=MASKS.json``: masks for your own boxes."""

from __future__ import annotations

from cis_seg.config.commands import start

if __name__ == "__main__":
    start("masks_from_boxes")
