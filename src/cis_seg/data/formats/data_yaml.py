"""``data.yaml`` of a YOLO data set: class names, keypoints, and where the images of each split are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml

from cis_seg.data.images import IMAGE_SUFFIXES
from cis_seg.errors import DataError, listing

SPLITS = ("train", "val", "test")
_SPELLINGS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


@dataclass
class DataYaml:
    """What the file says; paths are resolved."""

    path: Path
    names: dict[int, str]  # class index -> name
    keypoints: int = 0  # numbers after the box in a row of a pose data set
    splits: dict[str, list[Path]] = field(default_factory=dict)  # folders of images, or files that list images
    remarks: list[str] = field(default_factory=list)  # paths found elsewhere than stated


def read_data_yaml(path: Path) -> DataYaml:
    """Read ``data.yaml``.

    Paths are relative to ``path`` in the file, which is relative to the file itself. A path that does not exist is looked for below the
    file's folder by its last parts, so that Roboflow's ``../train/images`` and a Windows path of another machine are found; a remark says
    so.

    Raises:
        DataError: no such file, not YAML, without names, or without images.
    """
    content = _load(path)
    data = DataYaml(path, class_names(content.get("names"), path), _keypoints(content.get("kpt_shape"), path))
    root = str(content.get("path") or "")
    stated = []
    for split in SPLITS:
        value = next((content[key] for key in _SPELLINGS[split] if content.get(key)), None)
        for text in map(str, value if isinstance(value, list) else [value] if value else []):
            stated.append(f"{split}: {text}")
            if (found := _existing(path.parent, root, text)) is None:
                data.remarks.append(f"{split}: {text} does not exist, left out")
                continue
            data.splits.setdefault(split, []).append(found)
            if not (path.parent / root / text).exists():
                data.remarks.append(f"{split}: {text} does not exist here, read from {found}")
    if not data.splits:
        raise DataError(
            "data.yaml names no folder of images that exists",
            where=path,
            expected="train: a folder of images, relative to 'path' or to this file",
            found=f"{', '.join(stated) or 'no train, val or test'}; in {path.parent}: {listing(path.parent)}",
            remedy="correct the paths",
        )
    return data


def find_data_yaml(folder: Path) -> Path | None:
    """The YAML file in ``folder`` that has class names; ``data.yaml`` if there are several; None if there is none.

    Raises:
        DataError: there are several, and none is ``data.yaml``.
    """
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".yaml", ".yml")]
    named = [path for path in files if path.name == "data.yaml" or (isinstance(content := _parsed(path), dict) and "names" in content)]
    named = [path for path in named if path.name == "data.yaml"] or named
    if len(named) > 1:
        found = ", ".join(path.name for path in named)
        raise DataError("several YAML files have class names", where=folder, expected="data.yaml", found=found, remedy="name one of them")
    return named[0] if named else None


def class_names(value: Any, path: Path) -> dict[int, str]:
    """Class index -> name, of a list or a mapping.

    Raises:
        DataError: neither, or a name that is listed twice.
    """
    pairs = list(enumerate(value)) if isinstance(value, list) else list(value.items()) if isinstance(value, dict) else []
    whole = [(int(index), str(name)) for index, name in pairs if str(index).isdecimal()]
    names = dict(sorted(whole))
    if not names or len(whole) < len(pairs) or len(set(names.values())) < len(pairs):
        raise DataError(
            "data.yaml has no usable class names",
            where=path,
            expected="names: [person, car], or names: {0: person, 1: car}; each once",
            found=f"names: {str(value)[:200]}",
            remedy="write the class names in the order of the class numbers in the labels",
        )
    return names


def split_images(entry: Path) -> Iterator[Path]:
    """The images of a folder and the folders in it, by name; or those that a text file lists, existing or not."""
    if entry.is_dir():
        files = sorted(path for path in entry.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."))
        yield from (path for path in files if path.is_file())
        return
    for line in entry.read_text(encoding="utf-8-sig").splitlines():
        if name := line.strip().replace("\\", "/").removeprefix("./"):
            found = _existing(entry.parent, "", name)
            yield entry.parent / name if found is None else found


def _keypoints(value: Any, path: Path) -> int:
    if value is None:
        return 0
    if isinstance(value, list) and len(value) == 2 and all(isinstance(number, int) and number > 0 for number in value):
        return int(value[0] * value[1])
    expected = "[number of keypoints, 2 or 3]"
    raise DataError("kpt_shape of data.yaml is not usable", where=path, expected=expected, found=value, remedy="correct or delete it")


def _existing(folder: Path, root: str, text: str) -> Path | None:
    """The file or folder that ``text`` means."""
    if (stated := folder / root / text).exists():
        return Path(os.path.normpath(stated))
    parts = [part for part in PureWindowsPath(text).parts if part not in ("..", ".") and part != PureWindowsPath(text).anchor]
    tails = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((tail for tail in tails if tail.exists()), None)


def _parsed(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        found = f"in {path.parent}: {listing(path.parent)}"
        raise DataError("there is no such data.yaml", where=path, found=found, remedy="check the path")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        remedy = "correct this line; write Windows paths with / or in single quotes, because \\ in double quotes begins a code"
        raise DataError(f"{path.name} is not valid YAML", where=path, found=" ".join(str(error).split()), remedy=remedy) from error
    if not isinstance(content, dict):
        expected = "names, and train, val or test"
        raise DataError(f"{path.name} is not a data.yaml", where=path, expected=expected, found=f"a {type(content).__name__}")
    return content
