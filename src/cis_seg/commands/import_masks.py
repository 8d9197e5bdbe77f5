"""``python scripts/import_masks.py BOXES.json RESULTS.json OUT.json``: the masks of another model for your boxes, for supervision=mixed."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from cis_seg.errors import ConfigError, UserError


def main(arguments: Sequence[str] | None = None, prog: str = "python scripts/import_masks.py") -> int:
    """Return the exit code: 0, or 2 after a message about a file or an option."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Gives the boxes of a COCO json the masks of a COCO results file, with their scores, and reports how they agree. "
        "True masks of BOXES.json are kept.",
        epilog="example: %(prog)s train.json sam_results.json mixed.json",
    )
    parser.add_argument("boxes", type=Path, metavar="BOXES.json", help="COCO json with a box per instance, and masks for some or none")
    parser.add_argument(
        "results",
        type=Path,
        metavar="RESULTS.json",
        help="COCO results of any model, annotation_id names the instance; or a json with the ids of BOXES.json (from cis-seg masks)",
    )
    parser.add_argument("target", type=Path, metavar="OUT.json", help="file to write")
    parser.add_argument("--min-iou", type=float, default=0.5, help="minimum IoU of boxes matched without annotation_id (default: 0.5)")
    args = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        _import(args)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _import(args: argparse.Namespace) -> None:
    from cis_seg.annotation.mask_import import as_text, import_masks, masks_of
    from cis_seg.coco.entries import Needs
    from cis_seg.coco.reader import check_coco, read_coco, read_json
    from cis_seg.coco.results import read_results

    if args.target.resolve() in (args.boxes.resolve(), args.results.resolve()):
        raise ConfigError("the output would replace an input", where="OUT.json", expected="the name of a new json", found=args.target)
    if not 0 < args.min_iou <= 1:
        raise ConfigError("--min-iou is out of range", where="--min-iou", expected="more than 0, at most 1", found=args.min_iou)
    needs = Needs(file_names=False, masks="optional")
    file, content = read_coco(args.boxes, needs), read_json(args.results, "the results file")
    results = masks_of(check_coco(content, args.results, needs)) if isinstance(content, dict) else read_results(args.results, file)
    imported = import_masks(file, results, args.results, min_iou=args.min_iou)
    args.target.parent.mkdir(parents=True, exist_ok=True)
    content = file.others | {"images": list(file.images.values()), "annotations": imported.annotations}
    args.target.write_text(json.dumps(content), encoding="utf-8")
    print(f"{args.target}:\n{as_text(imported)}")
