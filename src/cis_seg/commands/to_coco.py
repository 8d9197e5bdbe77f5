"""CrowdHuman and OCHuman as COCO json: ``scripts/crowdhuman_to_coco.py`` and ``cis-seg ochuman``."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from cis_seg.config.schema import DataConfig
from cis_seg.errors import exit_code


def crowdhuman_to_coco(arguments: Sequence[str] | None = None, prog: str = "python scripts/crowdhuman_to_coco.py") -> int:
    """Convert a CrowdHuman split, or back; return the exit code: 0, or 2 after a message about the file."""
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
    return exit_code(_crowdhuman, args)


def _crowdhuman(args: argparse.Namespace) -> None:
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


def ochuman_to_coco(arguments: Sequence[str] | None = None, prog: str = "cis-seg ochuman") -> int:
    """Convert OCHuman, to score masks by the degree of occlusion; return the exit code: 0, or 2 after a message about the file."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Writes the people with masks of OCHuman's own json as a COCO instances json. OCHuman's COCO files need no conversion.",
        epilog="example: %(prog)s ochuman.json ochuman_val.json --part val",
    )
    parser.add_argument("source", type=Path, metavar="IN.json", help="ochuman.json")
    parser.add_argument("target", type=Path, metavar="OUT.json", help="file to write")
    parser.add_argument("--part", choices=["all", "val", "test"], default="all", help="the first 2,500 images with masks, or the others")
    return exit_code(_ochuman, parser.parse_args(arguments))


def _ochuman(args: argparse.Namespace) -> None:
    from cis_seg.data.formats.ochuman import ochuman_to_coco

    content = ochuman_to_coco(args.source, args.part)
    args.target.parent.mkdir(parents=True, exist_ok=True)
    args.target.write_text(json.dumps(content), encoding="utf-8")
    print(f"{args.target}: {len(content['images'])} images, {len(content['annotations'])} people with masks")
