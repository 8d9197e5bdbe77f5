"""``python scripts/import_masks.py BOXES.json RESULTS.json OUT.json``: the masks of another model for your boxes."""

from __future__ import annotations

from cis_seg.commands.annotations import import_masks as main

if __name__ == "__main__":
    raise SystemExit(main())
