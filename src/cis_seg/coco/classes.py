"""Names of classes: COCO's 80 in label order (pycocotools does not ship them), which of a file are used, and how names relate."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cis_seg.errors import DataError

COCO_CLASSES: tuple[str, ...] = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip

_MOST_NAMES = 100  # COCO's 80 categories fit into a message, LVIS's 1203 do not

#: ids between 1 and 90 that were given to classes without instances
_UNUSED_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})

#: category id in COCO's files of each label
COCO_CATEGORY_IDS: tuple[int, ...] = tuple(i for i in range(1, 91) if i not in _UNUSED_IDS)


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The names in ``known`` that ``name`` may stand for: the same but for case and spaces, otherwise at most three similar ones."""
    names = list(known)
    same = [other for other in names if _folded(other) == _folded(name)]
    return same or difflib.get_close_matches(name, names, n=3, cutoff=0.5)


def spelling_remedy(names: Iterable[str], known: Iterable[str]) -> str | None:
    """What to do if one of the ``names`` differs from one of ``known`` in case or spaces only; None if there is none."""
    others = list(known)
    pairs = [(name, other) for name in names for other in others if name != other and _folded(name) == _folded(other)]
    return f"{pairs[0][0]!r} and {pairs[0][1]!r} differ only in case or spaces: write one name in both" if pairs else None


def unused_parents(categories: Sequence[Mapping[str, Any]], unused: Mapping[int, str]) -> list[str]:
    """The names in ``unused`` that other entries of ``categories`` give as their supercategory.

    Roboflow writes such a class with id 0 into every file; it never has an annotation.
    """
    parents = {entry.get("supercategory") for entry in categories if entry.get("supercategory") != entry.get("name")}
    return [name for name in unused.values() if name in parents]


def choose(ids: dict[str, int], wanted: Sequence[str] | None, path: Path) -> dict[int, str]:
    """Choose categories of a file.

    Args:
        ids: name -> id of the file's categories.
        wanted: names in the order of the labels; None takes all, by id.
        path: the file.

    Returns:
        Category id -> name, in the order of the labels.

    Raises:
        DataError: a name that the file does not have, a name twice, or none.
    """
    if wanted is None:
        return dict(sorted((number, name) for name, number in ids.items()))
    for name in wanted:
        if name not in ids:
            near = nearest(name, ids)
            more = f" and {len(ids) - _MOST_NAMES} more, under 'categories' in the file" if len(ids) > _MOST_NAMES else ""
            raise DataError(
                f"category {name!r} does not exist",
                where=path,
                found=name,
                expected=f"one of {', '.join(sorted(ids, key=ids.__getitem__)[:_MOST_NAMES])}{more}",
                remedy=f"did you mean {' or '.join(map(repr, near))}?" if near else "choose one of these names",
            )
    if not wanted or len(set(wanted)) != len(wanted):
        raise DataError(
            "the choice of categories is empty or names one twice",
            where=path,
            found=list(wanted),
            expected="one or more different names",
            remedy="correct the list, or leave it out to take all categories",
        )
    return {ids[name]: name for name in wanted}


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()
