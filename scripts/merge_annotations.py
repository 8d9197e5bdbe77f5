"""``python scripts/merge_annotations.py JOB/job.json EXPORT.json... --output MERGED.json``: merge outlines into one checked test set."""

from __future__ import annotations

from cis_seg.commands.annotations import merge_annotations as main

if __name__ == "__main__":
    raise SystemExit(main())
