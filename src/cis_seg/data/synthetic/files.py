"""Writes the generated crowd to disk in CrowdHuman's layout, once, and recognises it afterwards.

A folder made here holds ``annotation_{train,val}.odgt``, ``Images/<ID>.jpg``, ``masks_{train,val}.json`` (the true
visible masks, for testing and for the fully supervised upper bound only), ``CARD.md`` and ``manifest.json``.
It appears under its name only when it is complete: it is drawn in a neighbouring folder that is then renamed.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cis_seg.data.synthetic.card import crowd_card
from cis_seg.data.synthetic.records import DrawnImage, coco_file, draw_image
from cis_seg.data.synthetic.spec import SPLITS, CrowdPaths, CrowdSpec
from cis_seg.errors import DataError

GENERATOR_VERSION = 1  # raise it with every change that alters pixels or annotations


def ensure_crowd(root: Path, spec: CrowdSpec, workers: int = 2) -> CrowdPaths:
    """The crowd of ``spec`` in ``root``: what is there if it is complete, else drawn now.

    Processes that ask at the same time wait for the one that draws. What an interrupted run left is drawn again.

    Args:
        root: folder of the data set; made if absent.
        spec: what to draw.
        workers: number of drawing processes, 1 draws in this one; the files do not depend on it. With more, a script
            that calls this needs its `if __name__ == "__main__"`, as everything that starts processes anew does.

    Raises:
        DataError: if ``root`` holds something else: a crowd of another spec, a damaged one, or files of another origin;
            nothing in it is touched. Also if the folder cannot be written.
    """
    paths = CrowdPaths(root)
    if _is_complete(paths, spec):
        return paths
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with _lock(root.parent / f".{root.name}.lock"):
            if not _is_complete(paths, spec):
                _draw_all(paths, spec, workers)
    except OSError as error:
        raise DataError(
            "the generated crowd cannot be written",
            where=root,
            found=error,
            remedy="set data.root to a folder that can be written and has room",
        ) from error
    return paths


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold ``path`` alone; it is freed when the process ends, however it ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_complete(paths: CrowdPaths, spec: CrowdSpec) -> bool:
    """Whether ``paths`` holds the whole crowd of ``spec``; False where nothing is, DataError where something else is."""
    if not paths.root.exists() or (paths.root.is_dir() and not any(paths.root.iterdir())):
        return False
    manifest = _read_manifest(paths)
    _require_equal("the folder holds a generated crowd of another spec", paths, asdict(spec), manifest["spec"])
    version = {"generator_version": GENERATOR_VERSION}
    _require_equal("another version of the generator drew this crowd", paths, version, {"generator_version": manifest["generator_version"]})
    _require_equal("the generated crowd is damaged or was changed", paths, manifest["files"], _inventory(paths))
    return True


def _read_manifest(paths: CrowdPaths) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(paths.manifest.read_text())
        if not all(isinstance(manifest[key], dict) for key in ("spec", "files")) or "generator_version" not in manifest:
            raise KeyError("spec, files or generator_version")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "the folder is not empty and no generated crowd: it has no readable manifest.json",
            where=paths.root,
            expected="an empty or absent folder, or a generated crowd",
            found=repr(error),
            remedy=_remedy(paths),
        ) from error
    return manifest


def _require_equal(problem: str, paths: CrowdPaths, expected: dict[str, Any], found: dict[str, Any]) -> None:
    """DataError that shows the entries in which the two differ."""
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
    return f"set data.root to another folder, or delete {paths.root}: the crowd is then drawn anew, in about a minute"


def _inventory(paths: CrowdPaths) -> dict[str, Any]:
    """Size and checksum of each annotation file, number and bytes of the images."""
    found: dict[str, Any] = {}
    for path in paths.annotation_files():
        data = path.read_bytes() if path.exists() else b""
        found[path.name] = {"bytes": len(data), "sha256": sha256(data).hexdigest()}
    sizes = [path.stat().st_size for path in paths.images.glob("*.jpg")]
    found["Images"] = {"files": len(sizes), "bytes": sum(sizes)}
    return found


def _draw_all(paths: CrowdPaths, spec: CrowdSpec, workers: int) -> None:
    """Draw everything beside ``paths.root`` and rename it into place."""
    draft = CrowdPaths(paths.root.parent / f".{paths.root.name}.partial")
    shutil.rmtree(draft.root, ignore_errors=True)
    draft.images.mkdir(parents=True)
    drawn = _draw_images(draft, spec, workers)
    for name, images in zip(SPLITS, (drawn[: spec.train_images], drawn[spec.train_images :]), strict=True):
        draft.odgt(name).write_text("".join(json.dumps(image.record) + "\n" for image in images))
        draft.masks(name).write_text(json.dumps(coco_file(spec, images)))
    draft.card.write_text(crowd_card(draft, spec))
    manifest = {"generator_version": GENERATOR_VERSION, "spec": asdict(spec), "files": _inventory(draft)}
    draft.manifest.write_text(json.dumps(manifest, indent=1) + "\n")
    draft.root.replace(paths.root)


def _draw_images(draft: CrowdPaths, spec: CrowdSpec, workers: int) -> list[DrawnImage]:
    """All images, those of train first."""
    jobs = [(split, index) for split, count in enumerate((spec.train_images, spec.val_images)) for index in range(count)]
    draw = partial(draw_image, draft.images, spec)
    progress = partial(tqdm, total=len(jobs), desc=f"drawing the crowd into {draft.root.parent}", unit=" images", disable=None)
    if workers == 1:
        return list(progress(map(draw, jobs)))
    # started anew, not forked: OpenCV's and torch's threads do not survive a fork and the children would wait for them for ever
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        return list(progress(pool.map(draw, jobs, chunksize=4)))
