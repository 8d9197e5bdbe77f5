"""A data set of two small images per split in COCO's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def coco_folder(root: Path, *, box: list[float] | None = None) -> Path:
    """Two small images with a person each, in COCO's layout."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (root / split).mkdir()
        annotations: list[dict[str, Any]] = []
        for i in range(2):
            Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(root / split / f"{i}.jpg")
            bbox = box if box and i == 1 else [20.0, 10.0, 40.0, 60.0]
            polygon = [20.0, 10.0, 60.0, 10.0, 60.0, 70.0, 20.0, 70.0]
            annotations.append(
                {"id": i + 1, "image_id": i, "category_id": 1, "bbox": bbox, "area": 2400.0, "iscrowd": 0, "segmentation": [polygon]}
            )
        images = [{"id": i, "file_name": f"{i}.jpg", "height": 96, "width": 128} for i in range(2)]
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root
