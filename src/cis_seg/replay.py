"""``python -m cis_seg.replay``: recompute a saved step."""

from __future__ import annotations

import sys

from cis_seg.commands.replay import main

if __name__ == "__main__":
    sys.exit(main())
