"""A COCO results file as a COCO instance file: detections that become labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cis_seg.coco.entries import Needs
from cis_seg.coco.reader import CocoFile, check_coco, read_coco
from cis_seg.coco.results import read_results
from cis_seg.errors import DataError

Json = dict[str, Any]


def from_results(path: Path, entries: Sequence[Json], names: Sequence[str] | None, annotations: Path | None, threshold: float) -> CocoFile:
    """The detections scored ``threshold`` or more.

    Args:
        path: the results file, checked by ``read_results``.
        entries: its content.
        names: class names in the order of the category ids, needed without ``annotations``.
        annotations: COCO json with the images and categories; None takes the images from the file names and masks of the results.

    Raises:
        DataError: images or class names are missing, or an entry cannot be used.
    """
    known = _listed(path, entries, names) if annotations is None else read_coco(annotations, Needs(masks="ignored", boxes=False))
    kept = [entry for entry in read_results(path, known) if entry["score"] >= threshold]
    content = {"images": list(known.images.values()), "categories": [{"id": i, "name": name} for i, name in known.categories.items()]}
    content["annotations"] = [{"id": number, "iscrowd": 0, **entry} for number, entry in enumerate(kept, start=1)]
    return check_coco(content, path, Needs(boxes=False, masks="optional"))


def _listed(path: Path, entries: Sequence[Json], names: Sequence[str] | None) -> CocoFile:
    """The images and categories that the results themselves name; images without detections are unknown."""
    images: dict[str, Json] = {}
    ids: set[int] = set()
    for number, entry in enumerate(entries):
        name, mask = (entry.get(key) if isinstance(entry, dict) else None for key in ("file_name", "segmentation"))
        size = mask.get("size") if isinstance(mask, dict) else None
        if not isinstance(name, str) or not isinstance(size, list) or len(size) != 2:
            raise DataError(
                "the results do not say which image they belong to, or its size",
                where=f"{path}, entry {number}",
                expected="file_name, and a segmentation with its size",
                found=str(entry)[:120],
                remedy="name the COCO json of the images: --annotations FILE.json",
            )
        images.setdefault(name, {"id": len(images) + 1, "file_name": name, "height": size[0], "width": size[1]})
        ids.add(entry["category_id"])
    if names is None or len(names) < len(ids):
        raise DataError(
            "the class names of the results are not known",
            where=path,
            expected=f"{len(ids)} names, of the category ids {', '.join(map(str, sorted(ids)))}",
            found="none" if names is None else ", ".join(names),
            remedy="name them: --classes person, or the COCO json of the images: --annotations FILE.json",
        )
    categories = [{"id": number, "name": name} for number, name in zip(sorted(ids), names, strict=False)]
    return check_coco({"images": list(images.values()), "categories": categories}, path, Needs())
