"""``python scripts/crowdhuman_to_coco.py IN.odgt IMAGES_DIR OUT.json``: a CrowdHuman split as COCO json; ``IN.json OUT.odgt``: back."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from cis_seg.config.schema import DataConfig
from cis_seg.errors import exit_code


def main(arguments: Sequence[str] | None = None, prog: str = "python scripts/crowdhuman_to_coco.py") -> int:
    """Return the exit code: 0, or 2 after a message about the file."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Writes a CrowdHuman split as a COCO instances json (boxes only; ignore regions become crowd regions). "
        "With IN.json OUT.odgt instead, converts such a json back.",
        epilog="example: %(prog)s annotation_val.odgt Images val.json",
    )
    parser.add_argument("source", type=Path, metavar="IN.odgt", help="annotations as CrowdHuman publishes them: one json record per line")
    parser.add_argument("images", type=Path, metavar="IMAGES_DIR", nargs="?", help="folder with <ID>.jpg, for their sizes")
    parser.add_argument("target", type=Path, metavar="OUT.json", help="file to write")
    parser.add_argument("--boxes", choices=["visible", "full", "head"], default="visible", help="which box becomes bbox (default: visible)")
    parser.add_argument(
        "--max-faulty",
        type=float,
        default=DataConfig.max_faulty,
        help=f"maximum share of unusable records (default: {DataConfig.max_faulty})",
    )
    parser.add_argument("--exif", choices=["ignore", "apply"], default="ignore", help="sizes as stored, or as EXIF turns them (data.exif)")
    args = parser.parse_args(arguments)
    if (args.images is None) != (args.source.suffix == ".json"):
        parser.error("give IN.odgt IMAGES_DIR OUT.json, or IN.json OUT.odgt")
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    return exit_code(_convert, args)


def _convert(args: argparse.Namespace) -> None:
    from cis_seg.data.crowdhuman_coco import to_coco, to_odgt

    if args.images is None:
        records = to_odgt(args.source)
        args.target.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        print(f"{args.target}: {len(records)} records")
        return
    content, faults = to_coco(args.source, args.images, boxes=args.boxes, max_faulty=args.max_faulty, exif=args.exif)
    args.target.parent.mkdir(parents=True, exist_ok=True)
    args.target.write_text(json.dumps(content), encoding="utf-8")
    regions = sum(annotation["iscrowd"] for annotation in content["annotations"])
    people = len(content["annotations"]) - regions
    counts = f"{len(content['images'])} images, {people} people, {regions} ignore regions"
    print(f"{args.target}: {counts}, {len(faults.listed)} records left out")
