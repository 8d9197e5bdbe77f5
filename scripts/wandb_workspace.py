"""``python scripts/wandb_workspace.py [[ENTITY/]PROJECT] [--dry-run]``: create a W&B view of runs with and without OverlapLoss."""

from __future__ import annotations

from cis_seg.commands.reports import wandb_workspace as main

if __name__ == "__main__":
    raise SystemExit(main())
