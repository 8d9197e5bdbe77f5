"""``python scripts/select_crowd_images.py data.root=DIR data.annotations=annotation_val.odgt output=JOB``: a job for annotators."""

from __future__ import annotations

from cis_seg.config.commands import start

if __name__ == "__main__":
    start("select_crowd_images")
