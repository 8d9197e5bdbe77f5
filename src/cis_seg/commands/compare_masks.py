"""``python scripts/compare_masks.py FIRST.json SECOND.json IMAGES_DIR OUTPUT_DIR``: where two sources of masks disagree."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cis_seg.errors import UserError

if TYPE_CHECKING:  # types alone: --help needs no image library
    from cis_seg.annotation.disagreement import Pair
    from cis_seg.coco.reader import CocoFile
    from cis_seg.visualization.drawing import Pixels

LIST, PAGES, MERGED = "disagreement.json", "disagreement", "merged.json"
MAX_SIDE = 1280  # px of a drawn image's longer side


def main(arguments: Sequence[str] | None = None, prog: str = "python scripts/compare_masks.py") -> int:
    """Return the exit code: 0, or 2 after a message about a file or an option."""
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
    args = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        _compare(args)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


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
    content = first.others | {"images": list(first.images.values()), "annotations": merged(first, found)}
    (args.output / MERGED).write_text(json.dumps(content) + "\n", encoding="utf-8")
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
