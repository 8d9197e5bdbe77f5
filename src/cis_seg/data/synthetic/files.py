"""Writing of the generated crowd in CrowdHuman's layout, with its annotations, and reuse of an existing one.

The folder contains ``annotation_{train,val}.odgt``, ``Images/<ID>.jpg``, ``masks_{train,val}.json`` (the
ground-truth visible masks in CIS's COCO layout, only for testing and the fully supervised upper bound), ``CARD.md`` and ``manifest.json``.
It is written to a temporary folder and renamed when complete.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b, sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from cis_seg.coco import rle
from cis_seg.data.synthetic.canvas import Person
from cis_seg.data.synthetic.scene import Scene, compose_scene
from cis_seg.data.synthetic.spec import SPLITS, CrowdPaths, CrowdSpec
from cis_seg.errors import DataError
from cis_seg.runtime.atomic_files import locked

FIRST_NUMBERS = (273000, 284000)  # of train and val; imitates CrowdHuman's IDs, the hash makes them unique
GENERATOR_VERSION = 1  # raise it with every change that alters pixels or annotations


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


def ensure_crowd(root: Path, spec: CrowdSpec, workers: int = 2) -> CrowdPaths:
    """Return the crowd of ``spec`` in ``root``; generate it if it does not exist.

    Concurrent calls wait for the first one. Remains of an interrupted run are replaced.

    Args:
        root: folder of the data set; created if necessary.
        spec: the crowd to generate.
        workers: number of processes; 1 generates in this process. The files do not depend on it. With more than one, a
            calling script needs the guard ``if __name__ == "__main__"``, because processes are spawned.

    Raises:
        DataError: ``root`` contains a crowd of another spec, a corrupt one, or other files (nothing is changed), or it
            is not writable.
    """
    paths = CrowdPaths(root)
    if _is_complete(paths, spec):
        return paths
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with locked(root.parent / f".{root.name}.lock", wait=True):
            if not _is_complete(paths, spec):
                _draw_all(paths, spec, workers)
    except OSError as error:
        raise DataError(
            "the generated crowd cannot be written",
            where=root,
            found=error,
            remedy="set data.root to a writable folder with enough space",
        ) from error
    return paths


def _is_complete(paths: CrowdPaths, spec: CrowdSpec) -> bool:
    """Return whether ``paths`` contains the complete crowd of ``spec``; raise a DataError if it contains anything else."""
    if not paths.root.exists() or (paths.root.is_dir() and not any(paths.root.iterdir())):
        return False
    manifest = _read_manifest(paths)
    _require_equal("the folder contains a generated crowd of another spec", paths, asdict(spec), manifest["spec"])
    version = {"generator_version": GENERATOR_VERSION}
    _require_equal(
        "the crowd was generated by another version of the generator", paths, version, {"generator_version": manifest["generator_version"]}
    )
    _require_equal("the generated crowd is corrupt or was changed", paths, manifest["files"], _inventory(paths))
    return True


def _read_manifest(paths: CrowdPaths) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(paths.manifest.read_text(encoding="utf-8"))
        if not all(isinstance(manifest[key], dict) for key in ("spec", "files")) or "generator_version" not in manifest:
            raise KeyError("spec, files or generator_version")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "the folder is neither empty nor a generated crowd: it has no readable manifest.json",
            where=paths.root,
            expected="an empty or absent folder, or a generated crowd",
            found=repr(error),
            remedy=_remedy(paths),
        ) from error
    return manifest


def _require_equal(problem: str, paths: CrowdPaths, expected: dict[str, Any], found: dict[str, Any]) -> None:
    """Raise a DataError that lists the differing entries, if any."""
    names = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    if names:
        raise DataError(
            problem,
            where=paths.root,
            expected={name: expected.get(name) for name in names},
            found={name: found.get(name) for name in names},
            remedy=_remedy(paths),
        )


def _remedy(paths: CrowdPaths) -> str:
    return f"set data.root to another folder, or delete {paths.root}: the crowd is then generated again, in about a minute"


def _inventory(paths: CrowdPaths) -> dict[str, Any]:
    """Return size and checksum of each annotation file, and number and total size of the images."""
    found: dict[str, Any] = {}
    for path in paths.annotation_files():
        data = path.read_bytes() if path.exists() else b""
        found[path.name] = {"bytes": len(data), "sha256": sha256(data).hexdigest()}
    sizes = [path.stat().st_size for path in paths.images.glob("*.jpg")]
    found["Images"] = {"files": len(sizes), "bytes": sum(sizes)}
    return found


def _draw_all(paths: CrowdPaths, spec: CrowdSpec, workers: int) -> None:
    """Write the crowd next to ``paths.root`` and rename it into place."""
    from cis_seg.data.synthetic.card import crowd_card  # imports torch, which takes the processes that draw several seconds

    draft = CrowdPaths(paths.root.parent / f".{paths.root.name}.partial")
    shutil.rmtree(draft.root, ignore_errors=True)
    draft.images.mkdir(parents=True)
    drawn = _draw_images(draft, spec, workers)
    for name, images in zip(SPLITS, (drawn[: spec.train_images], drawn[spec.train_images :]), strict=True):
        draft.odgt(name).write_text("".join(json.dumps(image.record) + "\n" for image in images), encoding="utf-8")
        draft.masks(name).write_text(json.dumps(coco_file(spec, images)), encoding="utf-8")
    draft.card.write_text(crowd_card(draft, spec), encoding="utf-8")
    manifest = {"generator_version": GENERATOR_VERSION, "spec": asdict(spec), "files": _inventory(draft)}
    draft.manifest.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    draft.root.replace(paths.root)


def _draw_images(draft: CrowdPaths, spec: CrowdSpec, workers: int) -> list[DrawnImage]:
    """Draw all images, train first."""
    jobs = [(split, index) for split, count in enumerate((spec.train_images, spec.val_images)) for index in range(count)]
    draw = partial(draw_image, draft.images, spec)
    progress = partial(tqdm, total=len(jobs), desc=f"drawing the crowd into {draft.root.parent}", unit=" images", disable=None)
    if workers == 1:
        return list(progress(map(draw, jobs)))
    # spawn, not fork: threads of OpenCV and torch do not survive a fork, and the children would wait for them forever
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        return list(progress(pool.map(draw, jobs, chunksize=4)))
