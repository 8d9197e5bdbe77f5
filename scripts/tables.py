"""``python scripts/tables.py RUNS... [--output DIR]``: the paper's tables, and tables of all other runs, from finished runs."""

from __future__ import annotations

from cis_seg.commands.reports import tables as main

if __name__ == "__main__":
    raise SystemExit(main())
