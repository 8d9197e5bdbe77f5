"""``python -m cis_seg.train``: compose, build, run, report."""

from __future__ import annotations

from cis_seg.commands.train import main

if __name__ == "__main__":
    main()
