"""Masks from annotators and other models: ``merge_annotations.py``, ``import_masks.py``, ``compare_masks.py``, ``degrade_masks.py``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cis_seg.annotation.problems import ACCEPTABLE, as_text, check_accepted, refused
from cis_seg.errors import ConfigError, DataError, exit_code

if TYPE_CHECKING:  # types alone: --help needs no image library
    from cis_seg.annotation.disagreement import Pair
    from cis_seg.coco.reader import CocoFile
    from cis_seg.visualization.drawing import Pixels

EXIT_REFUSED = 1  # the problems of the outlines are listed; nothing is written
ON_SCREEN = 20  # problems of each kind
LIST, PAGES, MERGED = "disagreement.json", "disagreement", "merged.json"  # written by compare_masks
MAX_SIDE = 1280  # px of a drawn image's longer side


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

    _check_new(args.target, args.boxes, args.results)
    if not 0 < args.min_iou <= 1:
        raise ConfigError("--min-iou is out of range", where="--min-iou", expected="more than 0, at most 1", found=args.min_iou)
    needs = Needs(file_names=False, masks="optional")
    file, content = read_coco(args.boxes, needs), read_json(args.results, "the results file")
    results = (
        mask_import.masks_of(check_coco(content, args.results, needs)) if isinstance(content, dict) else read_results(args.results, file)
    )
    imported = mask_import.import_masks(file, results, args.results, min_iou=args.min_iou)
    file.write(args.target, imported.annotations)
    print(f"{args.target}:\n{mask_import.as_text(imported)}")


def compare_masks(arguments: Sequence[str] | None = None, prog: str = "python scripts/compare_masks.py") -> int:
    """List where two sources of masks disagree; return the exit code: 0, or 2 after a message about a file or an option."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=f"Compares two COCO jsons with masks for the same annotation ids: writes {LIST}, lowest IoU first, pages that show "
        f"the first ones, and {MERGED}, which has for each instance the mask of the higher score and no pixel in two masks.",
        epilog="example: %(prog)s ours.json theirs.json photos out",
    )
    parser.add_argument("first", type=Path, metavar="FIRST.json", help="a mask without a score is a true mask")
    parser.add_argument("second", type=Path, metavar="SECOND.json", help="the same boxes with masks from elsewhere")
    parser.add_argument("images", type=Path, metavar="IMAGES_DIR", help="folder that the file names are relative to")
    parser.add_argument("output", type=Path, metavar="OUTPUT_DIR", help="folder to write to")
    parser.add_argument("--pages", type=int, default=5, help="maximum number of pages, six instances each (default: 5)")
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    return exit_code(_compare, parser.parse_args(arguments))


def _compare(args: argparse.Namespace) -> None:
    from cis_seg.annotation.disagreement import merged, pairs
    from cis_seg.coco.entries import Needs
    from cis_seg.coco.reader import read_coco
    from cis_seg.visualization.pages import PER_PAGE, Pages

    needs = Needs(masks="optional", folder=args.images)
    first, second = read_coco(args.first, needs), read_coco(args.second, needs)
    found = pairs(first, second)
    with Pages(args.output, PAGES) as pages:
        for pair in found[: PER_PAGE * max(args.pages, 0)]:
            pages.add(_panel(pair, first, args.images, (args.first.name, args.second.name)))
    (args.output / LIST).write_text(json.dumps([pair.entry() for pair in found], indent=1) + "\n", encoding="utf-8")
    first.write(args.output / MERGED, merged(first, found))
    both = [pair.iou for pair in found if None not in pair.masks]
    mean = f", mean IoU {sum(both) / len(both):.3f}, {sum(iou < 0.5 for iou in both)} below 0.5" if both else ""
    print(f"{args.output}: {len(found)} instances with a mask, {len(both)} in both files{mean}")


def _panel(pair: Pair, file: CocoFile, images: Path, names: tuple[str, str]) -> Pixels:
    """Return the photo with the first mask, and beside it with the second one, both with the box."""
    from cis_seg.data.images import read_image
    from cis_seg.visualization.drawing import Drawing, draw_instances, side_by_side

    image = file.images[pair.first.image_id]
    pixels = read_image(images / image["file_name"])
    x, y, width, height = pair.first.box
    drawings = [Drawing((x, y, x + width, y + height), mask) for mask in pair.masks]
    panels = [draw_instances(pixels, [drawing], max_side=MAX_SIDE) for drawing in drawings]
    kinds = [
        "no mask" if mask is None else "true mask" if score == 1 else f"score {score:.2f}"
        for mask, score in zip(pair.masks, pair.scores, strict=True)
    ]
    title = f"annotation {pair.first.id}, IoU {pair.iou:.2f}; {names[0]}: {kinds[0]}"
    return side_by_side(panels, [title, f"{names[1]}: {kinds[1]}"])


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

    _check_new(args.target, args.source)
    options = Degradation(args.mask_share, args.noise, not args.no_scores, args.seed)
    file = read_coco(args.source, Needs(file_names=False, masks="optional"))
    result = degraded(file, options)
    file.write(args.target, result.annotations)
    quality = "" if result.mean_iou is None else f", mean IoU with the masks of {args.source.name} {result.mean_iou:.3f}"
    print(f"{args.target}: {len(file.images)} images, {result.people} instances, {result.masks} with a mask{quality}")


def _check_new(target: Path, *sources: Path) -> None:
    if target.resolve() in [source.resolve() for source in sources]:
        raise ConfigError("the output would replace the input", where="OUT.json", expected="the name of a new json", found=target)
