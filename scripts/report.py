"""``python scripts/report.py RUNS... [--output FILE] [--figure PNG]``: finished runs as one self-contained HTML page."""

from __future__ import annotations

from cis_seg.commands.reports import report as main

if __name__ == "__main__":
    raise SystemExit(main())
