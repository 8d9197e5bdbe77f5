"""``python scripts/degrade_masks.py IN.json OUT.json``: a COCO json with fewer or worse masks, for experiments."""

from __future__ import annotations

from cis_seg.commands.annotations import degrade_masks as main

if __name__ == "__main__":
    raise SystemExit(main())
