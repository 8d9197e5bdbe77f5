"""``python -m cis_seg.predict``: find, write, draw."""

from __future__ import annotations

from cis_seg.commands.predict import main

if __name__ == "__main__":
    main()
