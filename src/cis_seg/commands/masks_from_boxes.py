"""``python scripts/masks_from_boxes.py checkpoint=... boxes=BOXES.json images=DIR output=MASKS.json``: predict masks for given boxes."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from omegaconf import DictConfig
from tqdm import tqdm

from cis_seg.coco import rle
from cis_seg.coco.entries import Needs
from cis_seg.coco.reader import check_coco, read_json
from cis_seg.config.command_schema import MasksFromBoxesConfig
from cis_seg.config.validation import checked
from cis_seg.data.formats.labelme_files import write_labelme
from cis_seg.data.formats.reading import is_label_set
from cis_seg.data.formats.yolo_files import write_yolo
from cis_seg.data.image_files import check_size
from cis_seg.data.images import read_image
from cis_seg.errors import ConfigError, DataError, listing
from cis_seg.inference.box_file import BoxedImage, BoxFile, read_box_file
from cis_seg.inference.box_masks import BoxMask, BoxMasker, labels_of_names
from cis_seg.inference.predictor import load_trained, pick_device, test_transform
from cis_seg.visualization.drawing import Drawing, Pixels, draw_instances, side_by_side
from cis_seg.visualization.pages import Pages

log = logging.getLogger(__name__)

#: some images could not be used: their annotations are not in the output
EXIT_SOME_UNREADABLE = 1

MAX_SIDE = 1280  # px, longer side of an overlay; two fit the width of a page


def masks_from_boxes(cfg: MasksFromBoxesConfig) -> dict[Path, DataError]:
    """Write a COCO json with the model's mask for every box; return the images that could not be used, with the reasons.

    For labels in another format, ``output`` may be a new folder: it gets ``masks.json`` and a YOLO-seg data set, or labelme's files in
    ``labels/`` if the boxes are labelme's.

    The output has the images, categories and annotations of the input, image by image. Annotations keep their entries, except for
    ``segmentation`` (the mask as compressed RLE at the image's size) and ``area`` (that of the mask). The new entry ``confidence`` states
    how well the network's own detection agrees with the box (``fit_given_boxes``). A box without area inside its image gets an empty mask
    and confidence 0. Crowd regions are not changed.

    Raises:
        UserError: a mistake of the user, found before the first image, with what to do about it.
    """
    output = Path(cfg.output).expanduser()
    _check(cfg, output)
    boxes = read_box_file(Path(cfg.boxes).expanduser(), None if cfg.images is None else Path(cfg.images).expanduser(), cfg.exif)
    exif = cfg.exif or ("ignore" if boxes.kind == "COCO" else "apply")
    folder = output if boxes.kind != "COCO" and output.suffix != ".json" else None
    output = output if folder is None else folder / "masks.json"
    if cfg.refine and not cfg.cut_to_box:
        log.warning("cut_to_box=false has no effect: refine=true cuts every mask to its box")
    trained = load_trained(Path(cfg.checkpoint))
    masker = BoxMasker(trained, test_transform(trained, cfg.test_size, cfg.max_size), pick_device(cfg.device), cfg, cfg.scales)
    labels = dict(zip(boxes.categories, labels_of_names(boxes.categories.values(), trained.class_names), strict=True))
    unreadable: dict[Path, DataError] = {}
    confidences: list[float] = []
    pages = Pages(output.parent, output.stem, cfg.pages)
    with _coco_file(output, boxes) as file, pages, tqdm(boxes.images, desc="masks", unit="image", disable=None) as bar:
        for image in bar:
            try:
                annotations, pixels = _with_masks(masker, image, labels, boxes.path, exif)
            except DataError as error:
                unreadable[image.path] = error
                continue
            file.write(annotations)
            confidences += [annotation["confidence"] for annotation in annotations if "confidence" in annotation]
            if pixels is not None and pages.wanted:
                pages.add(_panel(pixels, image, annotations))
    _log_summary(confidences, output, pages)
    if folder is not None:
        _write_labels(folder, output, boxes, unreadable)
    return unreadable


def _write_labels(folder: Path, masks: Path, boxes: BoxFile, unreadable: Mapping[Path, DataError]) -> None:
    """Write the masks in the format of the boxes; images that could not be used are left out."""
    content = read_json(masks, "the file of masks")
    content["images"] = [image.entry for image in boxes.images if image.path not in unreadable]
    file = check_coco(content, masks, Needs(boxes=False, masks="optional"))
    labelme = boxes.kind == "labelme"
    lines = write_labelme(file, folder / "labels", boxes.folder) if labelme else write_yolo(file, folder, boxes.folder)
    for line in lines:
        log.info("%s", line)


def _with_masks(
    masker: BoxMasker, image: BoxedImage, labels: Mapping[int, int], source: Path, exif: str
) -> tuple[list[dict[str, Any]], Pixels | None]:
    """Return the annotations of an image with their masks, and its pixels (None for an image without annotations, which is not read).

    Raises:
        DataError: the file is corrupt, or its size differs from that in the json.
    """
    if not image.annotations:
        return [], None
    pixels = read_image(image.path, exif=exif)
    check_size(image.path, pixels.shape[:2], image.size, source, exif)
    found = masker(pixels, [image.box(a) for a in image.annotations], [labels[a["category_id"]] for a in image.annotations])
    return [_with_mask(annotation, mask) for annotation, mask in zip(image.annotations, found, strict=True)], pixels


def _with_mask(annotation: dict[str, Any], found: BoxMask) -> dict[str, Any]:
    if annotation.get("iscrowd"):
        return annotation
    mask = {"segmentation": rle.to_json(found.mask), "area": rle.area(found.mask), "confidence": found.confidence}
    return {"iscrowd": 0} | annotation | mask


class _Annotations:
    """The list of annotations of a COCO json, written one by one."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._separator = file, ""

    def write(self, annotations: list[dict[str, Any]]) -> None:
        for annotation in annotations:
            self._file.write(f"{self._separator}\n{json.dumps(annotation)}")
            self._separator = ","


@contextmanager
def _coco_file(output: Path, boxes: BoxFile) -> Iterator[_Annotations]:
    """Open ``output`` for its annotations; the file gets its name when it is complete, so that nobody trains on half of it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".part")
    with partial.open("w", encoding="utf-8") as file:
        head = json.dumps(boxes.content | {"images": [image.entry for image in boxes.images]})
        file.write(head[:-1] + ', "annotations": [')
        yield _Annotations(file)
        file.write("\n]}\n")
    partial.replace(output)


def _panel(pixels: Pixels, image: BoxedImage, annotations: list[dict[str, Any]]) -> Pixels:
    """Return the image with the given boxes, and beside it with masks and confidences; a box has the same colour on both sides."""
    boxes, masks = [], []
    for annotation in annotations:
        box = image.box(annotation)
        if box is not None:
            boxes.append(Drawing(box, None))
            masks.append(Drawing(box, annotation["segmentation"], caption=f"{annotation['confidence']:.2f}"))
    panels = [draw_instances(pixels, boxes, max_side=MAX_SIDE), draw_instances(pixels, masks, max_side=MAX_SIDE, boxes=False)]
    return side_by_side(panels, [f"{image.path.name}: boxes given", "masks, with confidence"])


def _log_summary(confidences: list[float], output: Path, pages: Pages) -> None:
    doubtful = sum(confidence == 0 for confidence in confidences)
    median = float(np.median(confidences)) if confidences else 0.0
    log.info("%d masks, median confidence %.2f, %d with confidence 0 (too small, or outside the image)", len(confidences), median, doubtful)
    log.info("written to %s; look at %s", output, ", ".join(map(str, pages.written)) or "nothing: pages=0")


def _check(cfg: MasksFromBoxesConfig, output: Path) -> None:
    source = Path(cfg.boxes).expanduser()
    if is_label_set(source) and output.suffix != ".json":
        if output.is_file() or (output.is_dir() and any(output.iterdir())):
            found = "a file" if output.is_file() else listing(output, most=5)
            raise ConfigError(
                "the output must be a new folder or a json", where=f"output={output}", found=found, remedy="choose another name"
            )
    elif output.is_dir() or output.resolve() == source.resolve():
        found = "a folder" if output.is_dir() else "the input file"
        raise ConfigError("the output cannot be written there", where=f"output={output}", expected="the name of a new json", found=found)
    if cfg.pages < 0:
        raise ConfigError("pages is too small", where="pages", expected="0 or more", found=cfg.pages)


def mask_and_exit(cfg: DictConfig) -> None:
    """Hydra's task: exit with 1 if images could not be used."""
    unreadable = masks_from_boxes(checked(cfg))
    if unreadable:
        print(f"{len(unreadable)} images could not be used; their annotations are not in the output:", file=sys.stderr)
        for path, error in unreadable.items():
            print(f"  {path}: {error.problem} ({error.found})", file=sys.stderr)
        raise SystemExit(EXIT_SOME_UNREADABLE)
