"""``cis-seg ochuman IN.json OUT.json``: OCHuman's annotations as COCO json, to score masks by the degree of occlusion."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cis_seg.errors import UserError


def main(arguments: Sequence[str] | None = None, prog: str = "cis-seg ochuman") -> int:
    """Return the exit code: 0, or 2 after a message about the file."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Writes the people with masks of OCHuman's own json as a COCO instances json. OCHuman's COCO files need no conversion.",
        epilog="example: %(prog)s ochuman.json ochuman_val.json --part val",
    )
    parser.add_argument("source", type=Path, metavar="IN.json", help="ochuman.json")
    parser.add_argument("target", type=Path, metavar="OUT.json", help="file to write")
    parser.add_argument("--part", choices=["all", "val", "test"], default="all", help="the first 2,500 images with masks, or the others")
    args = parser.parse_args(arguments)
    try:
        from cis_seg.data.formats.ochuman import ochuman_to_coco

        content = ochuman_to_coco(args.source, args.part)
        args.target.parent.mkdir(parents=True, exist_ok=True)
        args.target.write_text(json.dumps(content), encoding="utf-8")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.target}: {len(content['images'])} images, {len(content['annotations'])} people with masks")
    return 0
