"""``cis-seg convert``: labels of other tools to COCO json, masks to labels of other tools, and checkpoints of AdelaiDet.

The kind of the first argument decides: a folder or ``data.yaml`` is read as labels, a ``.json`` as masks, any other file as a checkpoint.
``scripts/convert_adelaidet.py`` converts checkpoints alone.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cis_seg.errors import ConfigError, DataError, exit_code, listing

if TYPE_CHECKING:
    from cis_seg.coco.reader import CocoFile

_LABELS = (".yaml", ".yml", ".xml", ".txt")
_TO = ("coco", "yolo", "labelme")
_FROM = ("yolo", "voc", "labelme")

_EXAMPLES = """examples:
  %(prog)s DATASET/data.yaml boxes.json                       YOLO labels to COCO json
  %(prog)s VOC voc.json                                       a folder of Pascal VOC or labelme files to COCO json
  %(prog)s masks.json OUT --to yolo --images photos           masks to YOLO-seg
  %(prog)s masks.json OUT --to labelme --images photos        masks to labelme, to correct them by hand
  %(prog)s BoxInst_MS_R_50_3x.pth boxinst_r50.ckpt            a checkpoint of AdelaiDet
"""


def main(arguments: Sequence[str] | None = None, prog: str = "cis-seg convert") -> int:
    """Return the exit code: 0, or 2 after an error message."""
    return exit_code(_convert, _parser(prog).parse_args(arguments))


def convert_adelaidet(arguments: Sequence[str] | None = None, prog: str = "python scripts/convert_adelaidet.py") -> int:
    """Convert a checkpoint of AdelaiDet or detectron2; return the exit code: 0, or 2 after an error message."""
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
    return exit_code(_convert_checkpoint, parser.parse_args(arguments))


def _convert_checkpoint(args: argparse.Namespace) -> None:
    from rich.console import Console

    from cis_seg.model.adelaidet.files import convert_file, print_conversion

    conversion = convert_file(args.source, args.target, class_names=args.classes.split(",") if args.classes else None)
    print_conversion(Console(), conversion, source=args.source, target=args.target)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Converts labels: YOLO (boxes and polygons), Pascal VOC and labelme to COCO json; COCO json and results to YOLO-seg "
        "and labelme. What a format cannot hold is counted. Also converts AdelaiDet's and detectron2's checkpoints.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="IN", help="folder of labels, data.yaml, COCO json, COCO results, or checkpoint")
    parser.add_argument("target", type=Path, metavar="OUT", help="COCO json or checkpoint to write, or a new folder for YOLO and labelme")
    parser.add_argument("--to", choices=_TO, help="format to write (default: coco for a folder of labels)")
    parser.add_argument("--from", dest="kind", choices=_FROM, help="format of a folder of labels (default: found out)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the photos (default for labels: as the labels say)")
    parser.add_argument("--split", metavar="NAME", help="one split of YOLO or VOC: train, val, test (default: all)")
    parser.add_argument("--classes", metavar="NAME,NAME", help="class names in label order (YOLO without names, results, checkpoints)")
    parser.add_argument(
        "--exif", choices=["apply", "ignore"], help="labels drawn on photos as viewers turn them, or on the stored pixels (apply)"
    )
    parser.add_argument("--keep-difficult", action="store_true", help="read VOC's difficult objects as instances, not as ignore regions")
    parser.add_argument("--annotations", type=Path, metavar="JSON", help="COCO json of the images of COCO results")
    parser.add_argument("--score-threshold", type=float, metavar="X", help="minimum score of results that become labels (0.3)")
    return parser


def _check_options(args: argparse.Namespace, taken: Sequence[str] = ()) -> None:
    """Refuse an option that has no effect on this kind of input."""
    given = {"to", "classes", "kind", "images", "split", "exif", "keep_difficult", "annotations", "score_threshold"} - set(taken)
    for name in sorted(name for name in given if getattr(args, name) not in (None, False)):
        option = "--from" if name == "kind" else f"--{name.replace('_', '-')}"
        raise ConfigError(f"{option} has no effect on this kind of input", where=args.source, remedy="leave it out; --help explains it")


def _convert(args: argparse.Namespace) -> None:
    if not (args.source.is_dir() or args.source.suffix.lower() in (*_LABELS, ".json")):
        _check_options(args, ("classes",))
        if not args.source.suffix and not args.source.exists():
            found = f"in {args.source.parent}: {listing(args.source.parent)}"
            raise DataError("there is no such file or folder", where=args.source, found=found, remedy="check the path")
        _convert_checkpoint(args)
        return
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    masks = args.source.suffix.lower() == ".json" and not args.source.is_dir()
    for line in _written(_masks(args), args, args.images) if masks else _convert_labels(args):
        print(line)


def _convert_labels(args: argparse.Namespace) -> list[str]:
    """Write a folder of labels in another format; return what was written."""
    _check_options(args, ("to", "kind", "images", "split", "classes", "exif", "keep_difficult"))
    from cis_seg.data.formats.reading import read_labels

    labels = read_labels(
        args.source,
        kind=args.kind,
        images=args.images,
        names=_names(args),
        split=args.split,
        exif=args.exif or "apply",
        difficult=args.keep_difficult,
    )
    print(labels.summary())
    file = labels.checked()
    if args.to not in (None, "coco"):
        return _written(file, args, labels.images)
    _check_json(args.target)
    args.target.parent.mkdir(parents=True, exist_ok=True)
    args.target.write_text(json.dumps(labels.content), encoding="utf-8")
    return [f"wrote {args.target}; its file names are relative to {labels.images}"]


def _masks(args: argparse.Namespace) -> CocoFile:
    """The COCO json or results file to write in another format."""
    from cis_seg.coco.entries import Needs
    from cis_seg.coco.reader import check_coco, read_json
    from cis_seg.data.formats.predictions import from_results

    if args.to not in ("yolo", "labelme"):
        remedy = "--to yolo or --to labelme; for labels of one of labelme's files, name its folder"
        raise ConfigError("a json can be converted to YOLO and labelme", where=args.source, expected="--to", found=args.to, remedy=remedy)
    content = read_json(args.source, "the annotation file")
    if isinstance(content, list):
        _check_options(args, ("to", "images", "classes", "annotations", "score_threshold"))
        threshold = 0.3 if args.score_threshold is None else args.score_threshold
        file = from_results(args.source, content, _names(args), args.annotations, threshold)
        print(f"{args.source}: {len(file.annotations)} of {len(content)} detections are scored {threshold:g} or more")
        return file
    _check_options(args, ("to", "images"))
    return check_coco(content, args.source, Needs(boxes=False, masks="optional"))


def _written(file: CocoFile, args: argparse.Namespace, images: Path | None) -> list[str]:
    """Write a folder of labels; return what was written."""
    from cis_seg.data.formats.labelme_files import write_labelme
    from cis_seg.data.formats.yolo_files import write_yolo

    if args.target.is_file() or (args.target.is_dir() and any(args.target.iterdir())):
        found = "a file" if args.target.is_file() else listing(args.target, most=5)
        raise ConfigError("the output must be a new folder", where=args.target, found=found, remedy="choose another name")
    if args.images is not None and not args.images.is_dir():
        raise DataError("the folder of the photos does not exist", where=f"--images {args.images}", remedy="check the path")
    args.target.mkdir(parents=True, exist_ok=True)
    return (write_yolo if args.to == "yolo" else write_labelme)(file, args.target, images)


def _check_json(target: Path) -> None:
    if target.is_dir() or target.suffix != ".json":
        found = "a folder" if target.is_dir() else target.name
        raise ConfigError("COCO json is one file", where=target, expected="OUT.json", found=found, remedy="name a json, or add --to yolo")


def _names(args: argparse.Namespace) -> list[str] | None:
    return [name.strip() for name in args.classes.split(",")] if args.classes else None
