"""``python scripts/wandb_workspace.py [[ENTITY/]PROJECT] [--dry-run]``: create a W&B view of runs with and without OverlapLoss."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from cis_seg.errors import UserError


def main(arguments: Sequence[str] | None = None, prog: str = "python scripts/wandb_workspace.py") -> int:
    """Return the exit code: 0, or 2 after an error message."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Creates a saved view in a W&B project: runs grouped by family and stage with the columns of the paper's Table 1, "
        "AP by crowding, precision-recall curves, losses, cost and the table of images. Needs a network, an account and wandb-workspaces.",
    )
    parser.add_argument("project", nargs="?", metavar="[ENTITY/]PROJECT", help="default: cis_seg of your default entity")
    parser.add_argument("--dry-run", action="store_true", help="print the definition as JSON and send nothing")
    args = parser.parse_args(arguments)

    from cis_seg.training.callbacks.wandb_logging.workspace import PROJECT, create, definition

    defined = definition(args.project or PROJECT)
    if args.dry_run:
        print(json.dumps(defined, indent=2))
        return 0
    try:
        print(create(defined))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
