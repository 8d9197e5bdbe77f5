"""``python scripts/submit_testdev.py RESULTS.json IMAGE_INFO.json --name ALG --output DIR``: pack a zip for COCO's evaluation server."""

from __future__ import annotations

from cis_seg.commands.reports import submit_testdev as main

if __name__ == "__main__":
    raise SystemExit(main())
