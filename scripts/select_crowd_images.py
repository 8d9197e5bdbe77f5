"""``python scripts/select_crowd_images.py data.root=DIR data.annotations=annotation_val.odgt output=JOB``: a job for annotators."""

from __future__ import annotations

from cis_seg.commands.select_crowd_images import main

if __name__ == "__main__":
    main()
