"""``python -m cis_seg.evaluate``: score a checkpoint or a results file."""

from __future__ import annotations

from cis_seg.config.commands import start


def main() -> None:
    """Run the command on this process's command line."""
    start("evaluate")


if __name__ == "__main__":
    main()
