"""``python -m cis_seg.evaluate``: score a checkpoint or a results file."""

from __future__ import annotations

from cis_seg.commands.evaluate import main

if __name__ == "__main__":
    main()
