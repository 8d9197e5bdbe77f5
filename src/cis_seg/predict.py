"""``python -m cis_seg.predict``: find, write, draw."""

from __future__ import annotations

from cis_seg.config.commands import start


def main() -> None:
    """Run the command on this process's command line."""
    start("predict")


if __name__ == "__main__":
    main()
