"""``python scripts/crowdhuman_to_coco.py IN.odgt IMAGES_DIR OUT.json``: a CrowdHuman split as COCO json; ``IN.json OUT.odgt``: back."""

from __future__ import annotations

from cis_seg.commands.to_coco import crowdhuman_to_coco as main

if __name__ == "__main__":
    raise SystemExit(main())
