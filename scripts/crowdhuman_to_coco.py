"""``python scripts/crowdhuman_to_coco.py IN.odgt IMAGES_DIR OUT.json``: a CrowdHuman split as COCO json; ``IN.json OUT.odgt``: back."""

from __future__ import annotations

from cis_seg.commands.crowdhuman_to_coco import main

if __name__ == "__main__":
    raise SystemExit(main())
