"""Small folders of labels as YOLO, Pascal VOC and labelme write them; photos have 80 x 60 pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 80, 60
#: two boxes and, in the second row of rows, a triangle
BOX_ROWS = "0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.5 0.5\n"  # 30, 15, 20, 30 and 0, 0, 40, 30 as x, y, width, height
TRIANGLE_ROW = "1 0.25 0.5 0.75 0.5 0.5 1.0"  # 20, 30, 60, 30, 40, 60


def photo(path: Path, *, size: tuple[int, int] = (WIDTH, HEIGHT), orientation: int = 1) -> Path:
    """A photo of noise, with an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **({"exif": exif} if path.suffix == ".jpg" else {}))
    return path


def yolo_folder(root: Path, rows: str | bytes = BOX_ROWS, **data: Any) -> Path:
    """A folder in Roboflow's layout: train with a.jpg and the background b.jpg, valid with c.jpg; ``data`` changes data.yaml."""
    for name, text in (("train/a", rows), ("train/b", ""), ("valid/c", BOX_ROWS)):
        split, _, stem = name.partition("/")
        photo(root / split / "images" / f"{stem}.jpg")
        (root / split / "labels").mkdir(parents=True, exist_ok=True)
        content = text if isinstance(text, bytes) else text.encode()
        (root / split / "labels" / f"{stem}.txt").write_bytes(content)
    content = {"train": "../train/images", "val": "../valid/images", "nc": 2, "names": ["dog", "person"]} | data
    (root / "data.yaml").write_text(json.dumps(content))  # JSON is YAML
    return root


def voc_folder(root: Path, objects: str, *, name: str = "a.jpg", size: str = f"<width>{WIDTH}</width><height>{HEIGHT}</height>") -> Path:
    """``JPEGImages/a.jpg`` and ``Annotations/a.xml``."""
    photo(root / "JPEGImages" / "a.jpg")
    (root / "Annotations").mkdir(exist_ok=True)
    text = f"<annotation><filename>{name}</filename><size>{size}</size>{objects}</annotation>"
    (root / "Annotations" / "a.xml").write_text(text)
    return root


def voc_object(name: str, *box: float, extra: str = "") -> str:
    """One ``<object>`` with xmin, ymin, xmax, ymax."""
    sides = "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{sides}</bndbox></object>"


def labelme_folder(root: Path, *shapes: dict[str, Any], **changes: Any) -> Path:
    """``a.jpg`` and ``a.json`` with ``shapes``."""
    photo(root / "a.jpg")
    content = {"version": "5.2.1", "flags": {}, "shapes": list(shapes), "imagePath": "a.jpg", "imageData": None}
    content |= {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    (root / "a.json").write_text(json.dumps(content | changes))
    return root


def shape(label: str, points: list[list[float]], kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    """One labelme shape."""
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | more
