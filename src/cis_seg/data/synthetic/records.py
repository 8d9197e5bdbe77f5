"""Annotations of the generated crowd: CrowdHuman records, and ground-truth masks in CIS's COCO layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import cv2

from cis_seg.coco import rle
from cis_seg.data.synthetic.canvas import Person
from cis_seg.data.synthetic.scene import Scene, compose_scene
from cis_seg.data.synthetic.spec import CrowdSpec

FIRST_NUMBERS = (273000, 284000)  # of train and val; imitates CrowdHuman's IDs, the hash makes them unique


@dataclass(frozen=True)
class DrawnImage:
    """The annotations of a written image."""

    record: dict[str, Any]  # its line in the odgt file
    masks: list[dict[str, Any]]  # see ``true_masks``


def draw_image(folder: Path, spec: CrowdSpec, job: tuple[int, int]) -> DrawnImage:
    """Draw image ``job`` = (split, index) into ``folder``."""
    scene = compose_scene(spec, *job)
    name = image_id(spec, *job)
    done, code = cv2.imencode(".jpg", scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, spec.jpeg_quality])
    assert done, "JPEG encoding failed"
    (folder / f"{name}.jpg").write_bytes(code.tobytes())
    return DrawnImage(odgt_record(name, scene), true_masks(scene))


def image_id(spec: CrowdSpec, split: int, index: int) -> str:
    """Return an ID in CrowdHuman's form: a number, a comma, fifteen hexadecimal digits."""
    digits = blake2b(f"{spec.seed}-{split}-{index}".encode(), digest_size=8).hexdigest()[:15]
    return f"{FIRST_NUMBERS[split] + index},{digits}"


def odgt_record(name: str, scene: Scene) -> dict[str, Any]:
    """Return one odgt record: ``person`` entries (``extra.ignore`` 1 if too little is visible) and ``mask`` entries for ignore regions."""
    boxes = [_person_entry(number, person) for number, person in enumerate(scene.people)]
    for region in scene.ignore_regions:
        box = list(region)
        boxes.append({"tag": "mask", "hbox": box, "head_attr": {}, "fbox": box, "vbox": box, "extra": {"ignore": 1}})
    return {"ID": name, "gtboxes": boxes}


def _person_entry(number: int, person: Person) -> dict[str, Any]:
    extra = {"box_id": number, "occ": int(person.visible_share < 0.98)}
    if person.ignored:
        extra["ignore"] = 1
    head = {"ignore": int(person.head_share < 0.3), "occ": int(person.head_share < 0.98), "unsure": 0}
    return {"tag": "person", "hbox": list(person.head_box), "head_attr": head, "fbox": list(person.full_box),
            "vbox": list(person.visible_box), "extra": extra}  # fmt: skip


def true_masks(scene: Scene) -> list[dict[str, Any]]:
    """Return box, area and compressed RLE of each person who is not ignored, in record order, without ids."""
    return [_mask_entry(person) for person in scene.people if not person.ignored]


def _mask_entry(person: Person) -> dict[str, Any]:
    segmentation = rle.to_json(rle.encode(person.mask))
    return {"bbox": list(person.visible_box), "area": int(person.mask.sum()), "segmentation": segmentation, "iscrowd": 0, "category_id": 1}


def coco_file(spec: CrowdSpec, drawn: Sequence[DrawnImage]) -> dict[str, Any]:
    """Return the COCO json of one split. Image ids are line numbers of the odgt file, from 0 as in CIS.json.

    Annotation ids start at 1, because COCOeval treats a match with annotation 0 as no match.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(drawn):
        images.append({"id": number, "width": spec.width, "height": spec.height, "file_name": f"{image.record['ID']}.jpg"})
        for entry in image.masks:
            annotations.append({"id": len(annotations) + 1, "image_id": number, **entry})
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
