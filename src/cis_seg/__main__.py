"""``cis-seg NAME ...``, also ``python -m cis_seg NAME ...``: every command under one name.

The commands are the ones of ``python -m cis_seg.NAME`` and ``scripts/``. Only the standard library is imported until one is chosen.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from cis_seg import __version__

EXIT_USER_ERROR = 2  # as ``config.cli``, which imports Hydra
COMPLETION = ("-sc", "--shell-completion")  # Hydra's options for a shell


class Entry(NamedTuple):
    """One command."""

    summary: str
    target: str  # a key of ``command_schema.COMMANDS``, or ``module:function`` with argparse (``main`` if not named)


ENTRIES = {
    "train": Entry("train, resume and sweep", "train"),
    "evaluate": Entry("score a checkpoint or a results file", "evaluate"),
    "predict": Entry("find instances in photos and videos", "predict"),
    "masks": Entry("predict a mask for each box of a data set", "masks_from_boxes"),
    "doctor": Entry("check a training run before it starts", "cis_seg.doctor"),
    "replay": Entry("recompute a step with a non-finite loss", "cis_seg.replay"),
    "check": Entry("count what a data set contains and list what is odd", "check_dataset"),
    "browse": Entry("draw training batches and the ground truth", "browse"),
    "convert": Entry("convert labels (YOLO, VOC, labelme, COCO) and AdelaiDet's checkpoints", "cis_seg.commands.convert"),
    "export": Entry("export a checkpoint to ONNX", "export_onnx"),
    "tables": Entry("print the paper's tables from finished runs", "cis_seg.commands.reports:tables"),
    "report": Entry("write an HTML page about finished runs", "cis_seg.commands.reports:report"),
    "figure": Entry("draw two checkpoints beside the ground truth", "figure4"),
    "crowdhuman": Entry("convert a CrowdHuman split to COCO json, and back", "cis_seg.commands.to_coco:crowdhuman_to_coco"),
    "ochuman": Entry("convert OCHuman to COCO json", "cis_seg.commands.to_coco:ochuman_to_coco"),
    "select": Entry("choose images of CrowdHuman for annotation", "select_crowd_images"),
    "merge": Entry("merge annotated outlines into a test set", "cis_seg.commands.annotations:merge_annotations"),
    "import": Entry("give your boxes the masks of another model", "cis_seg.commands.annotations:import_masks"),
    "compare": Entry("list where two sources of masks disagree, and merge them", "cis_seg.commands.annotations:compare_masks"),
    "degrade": Entry("write a COCO json with fewer or worse masks, for experiments", "cis_seg.commands.annotations:degrade_masks"),
    "submit": Entry("pack results for COCO's evaluation server", "cis_seg.commands.reports:submit_testdev"),
    "workspace": Entry("create a W&B view of runs with and without OverlapLoss", "cis_seg.commands.reports:wandb_workspace"),
}


def main() -> None:
    """Run the command line of this process.

    Raises:
        SystemExit: with the exit code of the command, or 2 after a message about an unknown one.
    """
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in COMPLETION:
        _complete(arguments)
    elif name in ("--help", "-h", "help"):
        print(_listing())
    elif name == "--version":
        print(f"cis-seg {__version__}")
    elif name in ENTRIES:
        _run(name, arguments)
    else:
        close = difflib.get_close_matches(name, ENTRIES, n=1)
        remedy = f"did you mean cis-seg {close[0]}?" if close else "cis-seg alone lists the commands"
        print(f"error: there is no command {name}\n  expected: one of {', '.join(ENTRIES)}\n  what to do: {remedy}", file=sys.stderr)
        raise SystemExit(EXIT_USER_ERROR)


def _run(name: str, arguments: Sequence[str]) -> None:
    target, app = ENTRIES[name].target, f"cis-seg {name}"
    if "." in target:
        module, _, function = target.partition(":")
        raise SystemExit(getattr(import_module(module), function or "main")(arguments, prog=app))
    from cis_seg.config.commands import start  # imported here because cis-seg doctor works without Hydra

    sys.argv[1:] = arguments
    start(target, app=app)


def _listing() -> str:
    lines = [f"  {name.ljust(12)}{entry.summary}" for name, entry in ENTRIES.items()]
    head = "Instance masks of people in crowds, learned from boxes.\n\n  cis-seg NAME ...        cis-seg NAME --help explains a command\n"
    return "\n".join([head, *lines])


def _complete(arguments: Sequence[str]) -> None:
    """Answer a shell: the commands, or what Hydra suggests for the overrides of one."""
    from cis_seg.config.commands import start

    if not arguments or not arguments[0].startswith("query="):
        return start("train")  # install and uninstall do not depend on the command
    typed = re.match(r"\s*\S+\s+(\S+)\s+(.*)", os.environ.get("COMP_LINE", ""))
    if typed is None:
        print("\n".join(ENTRIES))
    elif typed[1] in ENTRIES and "." not in ENTRIES[typed[1]].target:
        os.environ["COMP_LINE"] = f"cis-seg {typed[2]}"
        start(ENTRIES[typed[1]].target)
    return None


if __name__ == "__main__":
    main()
