"""What is made of finished runs: ``scripts/tables.py``, ``report.py``, ``wandb_workspace.py`` and ``submit_testdev.py``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cis_seg.errors import exit_code

RUNS = "a run, a folder of its seeds, or the folder of all runs"


def tables(arguments: Sequence[str] | None = None, prog: str = "python scripts/tables.py") -> int:
    """Print the paper's tables, and tables of all other runs. Return the exit code: 0, or 2 after an error message."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Prints Tables 1 and 2 of the paper from finished runs: mean and standard deviation over seeds, the paper's "
        "numbers beside ours, and the gain of OverlapLoss over its control. Runs of other experiments get a separate table.",
        epilog="example: %(prog)s runs --output tables",
    )
    help_of_runs = f"{RUNS}; a folder written by evaluate is read only if given explicitly"
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUNS", help=help_of_runs)
    parser.add_argument("--output", type=Path, metavar="DIR", help="also write tables.md, runs.csv, groups.csv and lambda.png there")
    return exit_code(_tables, parser.parse_args(arguments))


def _tables(args: argparse.Namespace) -> None:
    from cis_seg.reports.groups import grouped
    from cis_seg.reports.markdown_tables import document
    from cis_seg.reports.runs import find_runs
    from cis_seg.reports.table_files import write

    runs, skipped = find_runs(args.runs)
    groups = grouped(runs)
    text = document(groups, skipped)
    print(text, end="")
    for path in write(args.output, text, groups) if args.output is not None else ():
        print(f"wrote {path}", file=sys.stderr)


def report(arguments: Sequence[str] | None = None, prog: str = "python scripts/report.py") -> int:
    """Write finished runs as one self-contained HTML page. Return the exit code: 0, or 2 after an error message."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Writes one self-contained HTML page about finished runs: training curves (from CSV logs), the tables of "
        "cis-seg tables, overlays, configs and their differences. It needs no network.",
        epilog="example: %(prog)s runs --figure figure/figure4.png --output report.html",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUNS", help=f"{RUNS}, as in cis-seg tables")
    parser.add_argument("--output", type=Path, default=Path("report.html"), metavar="FILE", help="the page (default: report.html)")
    picture = "a picture to show first, such as figure4.png; may be repeated"
    parser.add_argument("--figure", type=Path, action="append", default=[], metavar="PNG", help=picture)
    return exit_code(_report, parser.parse_args(arguments))


def _report(args: argparse.Namespace) -> None:
    from cis_seg.reports.groups import grouped
    from cis_seg.reports.html_page import page
    from cis_seg.reports.runs import find_runs

    runs, skipped = find_runs(args.runs)
    text = page(grouped(runs), skipped, args.figure)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(text, encoding="utf-8")
    print(f"wrote {args.output} ({len(text) / 1e6:.1f} MB)")


def wandb_workspace(arguments: Sequence[str] | None = None, prog: str = "python scripts/wandb_workspace.py") -> int:
    """Create a W&B view of runs with and without OverlapLoss. Return the exit code: 0, or 2 after an error message."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Creates a saved view in a W&B project: runs grouped by family and stage with the columns of the paper's Table 1, "
        "AP by crowding, precision-recall curves, losses, cost and the table of images. Needs a network, an account and wandb-workspaces.",
    )
    parser.add_argument("project", nargs="?", metavar="[ENTITY/]PROJECT", help="default: cis_seg of your default entity")
    parser.add_argument("--dry-run", action="store_true", help="print the definition as JSON and send nothing")
    return exit_code(_wandb_workspace, parser.parse_args(arguments))


def _wandb_workspace(args: argparse.Namespace) -> None:
    from cis_seg.training.callbacks.wandb_logging.workspace import PROJECT, create, definition

    defined = definition(args.project or PROJECT)
    print(json.dumps(defined, indent=2) if args.dry_run else create(defined))


def submit_testdev(arguments: Sequence[str] | None = None, prog: str = "python scripts/submit_testdev.py") -> int:
    """Pack a results file for COCO's evaluation server. Return the exit code: 0, or 2 after a message about the files."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Checks a results file of COCO's test-dev2017 and packs its masks as detections_test-dev2017_ALG_results.zip, "
        "which you upload to COCO's evaluation server yourself.",
        epilog="example: %(prog)s predictions.json image_info_test-dev2017.json --name cis-r50 --output submission",
    )
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="COCO results with masks, as evaluate and predict write them")
    parser.add_argument("image_info", type=Path, metavar="IMAGE_INFO.json", help="COCO's image_info_test-dev2017.json")
    parser.add_argument("--name", required=True, metavar="ALG", help="name of the algorithm: letters, digits, - and .")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the zip")
    return exit_code(_submit_testdev, parser.parse_args(arguments))


def _submit_testdev(args: argparse.Namespace) -> None:
    from cis_seg.coco.submission import pack

    print(pack(args.results, args.image_info, name=args.name, output=args.output))
