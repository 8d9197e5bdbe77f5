"""``python scripts/degrade_masks.py IN.json OUT.json``: a COCO json with fewer or worse masks, for experiments."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from cis_seg.errors import ConfigError, UserError


def main(arguments: Sequence[str] | None = None, prog: str = "python scripts/degrade_masks.py") -> int:
    """Return the exit code: 0, or 2 after a message about the file or an option."""
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
    args = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        _degrade(args)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


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
