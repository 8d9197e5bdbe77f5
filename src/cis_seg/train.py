"""``python -m cis_seg.train``: compose, build, run, report."""

from __future__ import annotations

from cis_seg.config.commands import start


def main() -> None:
    """Run the command on this process's command line."""
    start("train")


if __name__ == "__main__":
    main()
