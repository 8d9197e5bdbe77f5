"""Which format a folder of labels has, and its reader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cis_seg.data.formats.data_yaml import find_data_yaml
from cis_seg.data.formats.label_set import LabelSet
from cis_seg.data.formats.labelme import is_labelme, read_labelme
from cis_seg.data.formats.voc import read_voc
from cis_seg.data.formats.yolo import read_yolo
from cis_seg.errors import DataError, listing

KINDS = ("yolo", "voc", "labelme")
YAML = (".yaml", ".yml")


def is_label_set(path: Path) -> bool:
    """Whether ``path`` can only be labels of these formats: a folder or a YAML file."""
    return path.is_dir() or path.suffix.lower() in YAML


def read_labels(
    source: Path,
    *,
    kind: str | None = None,
    images: Path | None = None,
    names: Sequence[str] | None = None,
    split: str | None = None,
    exif: str = "apply",
    difficult: bool = False,
) -> LabelSet:
    """Read labels of any of the formats.

    Args:
        source: a folder, or YOLO's ``data.yaml``.
        kind: one of ``KINDS``; None finds out.
        images: folder of the photos of VOC and labelme; by default ``source``.
        names: class names of YOLO in label order; by default those that the folder has.
        split: one split of YOLO or VOC; None reads all.
        exif: ``apply`` if the labels were drawn on the photos as viewers turn them, as these tools do; ``ignore`` for the stored pixels.
        difficult: read VOC's difficult objects as instances.

    Raises:
        DataError: no such folder, no labels of a known format or of several, an option that the format does not have, or labels that cannot
            be read.
    """
    if not source.exists():
        found = f"in {source.parent}: {listing(source.parent)}"
        raise DataError("there are no such labels", where=source, expected="a folder, or YOLO's data.yaml", found=found)
    kind = kind or find_kind(source)
    options = {"--images": images is not None, "--classes": names is not None, "--split": split is not None, "--keep-difficult": difficult}
    taken = {"yolo": ("--classes", "--split"), "voc": ("--images", "--split", "--keep-difficult"), "labelme": ("--images",)}[kind]
    for option, given in options.items():
        if given and option not in taken:
            remedy = "YOLO's labels name their own images" if option == "--images" else "leave it out"
            raise DataError(f"{option} has no effect on {kind} labels", where=source, expected=", ".join(taken), remedy=remedy)
    if kind == "voc":
        return read_voc(source, images=images, split=split, exif=exif, difficult=difficult)
    if kind == "labelme":
        return read_labelme(source, images=images, exif=exif)
    return read_yolo(source, names=names, split=split, exif=exif)


def find_kind(source: Path) -> str:
    """The format of a folder of labels, one of ``KINDS``.

    Raises:
        DataError: there are labels of none, or of several.
    """
    if source.is_file() and source.suffix.lower() not in YAML:
        raise DataError(
            "one label file is not a data set", where=source, expected="a folder, or YOLO's data.yaml", remedy="name its folder"
        )
    if source.is_file() or find_data_yaml(source) is not None:
        return "yolo"
    found = [
        kind
        for kind, matches in (
            ("voc", any(True for _ in source.rglob("*.xml"))),
            ("labelme", any(map(is_labelme, source.rglob("*.json")))),
            ("yolo", any(path.name != "classes.txt" for path in source.rglob("*.txt"))),
        )
        if matches
    ]
    if "voc" in found and (source / "ImageSets").is_dir():
        return "voc"  # its .txt files list images
    if len(found) == 1:
        return found[0]
    raise DataError(
        "the folder has labels of several formats" if found else "the folder has no labels",
        where=source,
        expected="YOLO (data.yaml, or .txt files), Pascal VOC (.xml) or labelme (.json with shapes)",
        found=", ".join(found) if found else listing(source),
        remedy="name one: --from FORMAT of cis-seg convert" if found else "name the folder that has the labels",
    )
