"""``python scripts/submit_testdev.py RESULTS.json IMAGE_INFO.json --name ALG --output DIR``: pack a zip for COCO's evaluation server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cis_seg.errors import UserError


def main(arguments: Sequence[str] | None = None, prog: str = "python scripts/submit_testdev.py") -> int:
    """Return the exit code: 0, or 2 after a message about the files."""
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
    args = parser.parse_args(arguments)

    from cis_seg.coco.submission import pack

    try:
        submission = pack(args.results, args.image_info, name=args.name, output=args.output)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(submission)
    return 0
