"""``python scripts/compare_masks.py FIRST.json SECOND.json IMAGES_DIR OUTPUT_DIR``: where two sources of masks disagree."""

from __future__ import annotations

from cis_seg.commands.annotations import compare_masks as main

if __name__ == "__main__":
    raise SystemExit(main())
