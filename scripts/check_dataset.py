"""``python scripts/check_dataset.py data=coco data.root=DIR``: counts, statistics and every suspicious annotation of a data set."""

from __future__ import annotations

from cis_seg.config.commands import start

if __name__ == "__main__":
    start("check_dataset")
