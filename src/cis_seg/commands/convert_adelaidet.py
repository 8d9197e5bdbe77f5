"""``python scripts/convert_adelaidet.py IN.pth OUT.ckpt``: convert a checkpoint of AdelaiDet or detectron2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cis_seg.errors import UserError


def main(arguments: Sequence[str] | None = None, prog: str = "python scripts/convert_adelaidet.py") -> int:
    """Return the exit code: 0, or 2 after an error message."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Converts a BoxInst or CondInst checkpoint of AdelaiDet (IN.pth -> OUT.ckpt, for evaluate, predict and init_from), "
        "or an ImageNet backbone of detectron2 (IN.pkl -> OUT.pth, for model.backbone.weights). "
        "The architecture is inferred from the weights; tensors that do not fit are reported by name.",
        epilog="example: %(prog)s BoxInst_MS_R_50_3x.pth boxinst_r50.ckpt",
    )
    parser.add_argument("source", type=Path, metavar="IN.pth", help="the downloaded file")
    parser.add_argument("target", type=Path, metavar="OUT.ckpt", help="file to write")
    parser.add_argument("--classes", metavar="NAME,NAME", help="class names in label order, for other classes than COCO's 80 or person")
    args = parser.parse_args(arguments)
    try:
        return convert(args.source, args.target, args.classes)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def convert(source: Path, target: Path, classes: str | None) -> int:
    """Convert a file and print what was converted; return the exit code.

    Args:
        source: the downloaded file.
        target: file to write.
        classes: class names in label order, separated by commas.

    Raises:
        UserError: the file cannot be converted.
    """
    from rich.console import Console

    from cis_seg.model.adelaidet.files import convert_file, print_conversion

    conversion = convert_file(source, target, class_names=classes.split(",") if classes else None)
    print_conversion(Console(), conversion, source=source, target=target)
    return 0
