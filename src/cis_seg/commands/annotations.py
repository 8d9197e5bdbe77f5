"""Masks from annotators and other models: ``scripts/merge_annotations.py``, ``import_masks.py`` and ``degrade_masks.py``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from cis_seg.annotation.problems import ACCEPTABLE, as_text, check_accepted, refused
from cis_seg.errors import ConfigError, DataError, exit_code

EXIT_REFUSED = 1  # the problems of the outlines are listed; nothing is written
ON_SCREEN = 20  # problems of each kind


def merge_annotations(arguments: Sequence[str] | None = None, prog: str = "python scripts/merge_annotations.py") -> int:
    """Merge outlines into one checked test set; return the exit code: 0, 1 if outlines were refused, 2 after a message."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Merges the outlines of a job (cis-seg select) into a COCO json in the format of CIS.json, with a data "
        "card beside it, if every outline follows COCO's rules for instance masks.",
    )
    parser.add_argument("job", type=Path, metavar="JOB.json", help="the job as cis-seg select wrote it")
    parser.add_argument("exports", type=Path, nargs="+", metavar="EXPORT.json", help="COCO json exported by an annotation tool")
    parser.add_argument("--output", type=Path, required=True, metavar="MERGED.json", help="the card is called MERGED.md")
    parser.add_argument("--dropped", type=Path, metavar="FILE", help="people to leave out, one per line: id in the job, and the reason")
    accept = f"kinds of problem to accept after a look: {', '.join(ACCEPTABLE)}"
    parser.add_argument("--accept", nargs="+", default=[], metavar="KIND", help=accept)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    return exit_code(_merge, parser.parse_args(arguments))


def _merge(args: argparse.Namespace) -> int:
    from cis_seg.annotation.exports import read_export
    from cis_seg.annotation.job import read_dropped, read_job
    from cis_seg.annotation.merging import data_card, merge

    check_accepted(args.accept)
    if args.output.resolve() in {path.resolve() for path in (args.job, *args.exports)} or args.output.suffix != ".json":
        expected = "a new json, neither the job nor an export"
        raise ConfigError("the output cannot be written there", where="--output", expected=expected, found=args.output)
    job = read_job(args.job)
    exports = [read_export(path, job) for path in args.exports]
    merged = merge(job, exports, read_dropped(args.dropped, job))
    listed = args.output.with_suffix(".problems.txt")
    listed.unlink(missing_ok=True)
    if wrong := refused(merged.problems, args.accept):
        print(as_text(wrong, ON_SCREEN), file=sys.stderr)
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text(as_text(wrong) + "\n", encoding="utf-8")
        advice = f"fix them in the annotation tool, list people to leave out with --dropped, or --accept {'/'.join(ACCEPTABLE)}"
        print(f"{len(wrong)} problems, all in {listed}; nothing was merged: {advice}", file=sys.stderr)
        return EXIT_REFUSED
    if not merged.people:
        raise DataError(
            "no person is outlined", where=args.job, expected="at least one mask", found="none", remedy="pass the exported files"
        )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(merged.content) + "\n", encoding="utf-8")
    card = args.output.with_suffix(".md")
    card.write_text(data_card(args.output, merged, job, exports), encoding="utf-8")
    print(
        f"{args.output}: {len(merged.content['images'])} images, {merged.people} people, {len(merged.dropped)} dropped; data card: {card}"
    )
    return 0


def import_masks(arguments: Sequence[str] | None = None, prog: str = "python scripts/import_masks.py") -> int:
    """Give boxes the masks of another model; return the exit code: 0, or 2 after a message about a file or an option."""
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
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    return exit_code(_import, parser.parse_args(arguments))


def _import(args: argparse.Namespace) -> None:
    from cis_seg.annotation import mask_import
    from cis_seg.coco.entries import Needs
    from cis_seg.coco.reader import check_coco, read_coco, read_json
    from cis_seg.coco.results import read_results

    if args.target.resolve() in (args.boxes.resolve(), args.results.resolve()):
        raise ConfigError("the output would replace an input", where="OUT.json", expected="the name of a new json", found=args.target)
    if not 0 < args.min_iou <= 1:
        raise ConfigError("--min-iou is out of range", where="--min-iou", expected="more than 0, at most 1", found=args.min_iou)
    needs = Needs(file_names=False, masks="optional")
    file, content = read_coco(args.boxes, needs), read_json(args.results, "the results file")
    results = (
        mask_import.masks_of(check_coco(content, args.results, needs)) if isinstance(content, dict) else read_results(args.results, file)
    )
    imported = mask_import.import_masks(file, results, args.results, min_iou=args.min_iou)
    args.target.parent.mkdir(parents=True, exist_ok=True)
    content = file.others | {"images": list(file.images.values()), "annotations": imported.annotations}
    args.target.write_text(json.dumps(content), encoding="utf-8")
    print(f"{args.target}:\n{mask_import.as_text(imported)}")


def degrade_masks(arguments: Sequence[str] | None = None, prog: str = "python scripts/degrade_masks.py") -> int:
    """Write a COCO json with fewer or worse masks; return the exit code: 0, or 2 after a message about the file or an option."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Writes a COCO instances json with fewer or worse masks, to measure what supervision=mixed makes of them. Boxes stay.",
        epilog="example: %(prog)s masks_train.json masks_10.json --mask-share 0.1",
    )
    parser.add_argument("source", type=Path, metavar="IN.json", help="COCO json with masks")
    parser.add_argument("target", type=Path, metavar="OUT.json", help="file to write")
    parser.add_argument("--mask-share", type=float, default=1.0, help="share of the masks that remain, chosen at random (default: 1)")
    parser.add_argument(
        "--noise",
        type=float,
        default=0.0,
        help="0: masks as they are; 1: dilated, shifted, cut, extended to an IoU of about 0.4 (default: 0)",
    )
    parser.add_argument("--no-scores", action="store_true", help="degraded masks get no score, so that they count as true masks")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices (default: 0)")
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    return exit_code(_degrade, parser.parse_args(arguments))


def _degrade(args: argparse.Namespace) -> None:
    from cis_seg.annotation.degradation import Degradation, degraded
    from cis_seg.coco.entries import Needs
    from cis_seg.coco.reader import read_coco

    if args.target.resolve() == args.source.resolve():
        raise ConfigError("the output would replace the input", where="OUT.json", expected="the name of a new json", found=args.target)
    options = Degradation(args.mask_share, args.noise, not args.no_scores, args.seed)
    file = read_coco(args.source, Needs(file_names=False, masks="optional"))
    result = degraded(file, options)
    args.target.parent.mkdir(parents=True, exist_ok=True)
    content = file.others | {"images": list(file.images.values()), "annotations": result.annotations}
    args.target.write_text(json.dumps(content), encoding="utf-8")
    quality = "" if result.mean_iou is None else f", mean IoU with the masks of {args.source.name} {result.mean_iou:.3f}"
    print(f"{args.target}: {len(file.images)} images, {result.people} instances, {result.masks} with a mask{quality}")
