"""``python scripts/merge_annotations.py JOB/job.json EXPORT.json... --output MERGED.json``: merge outlines into one checked test set."""

from __future__ import annotations

from cis_seg.commands.merge_annotations import main

if __name__ == "__main__":
    raise SystemExit(main())
