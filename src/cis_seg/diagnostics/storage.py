"""Room for what a run writes and shares: disk, shared memory, open files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from cis_seg.build import crowd_spec
from cis_seg.config.schema import Config, CrowdData
from cis_seg.diagnostics.finding import Line, ok, problem, warning
from cis_seg.diagnostics.machine import gigabytes
from cis_seg.diagnostics.subject import Subject
from cis_seg.model.build import build_model
from cis_seg.runtime.usage import open_file_limit

#: last, the one before it, best, and one that is being written
CHECKPOINTS = 4
#: tensors of a parameter's size in a checkpoint: itself, and what the optimiser keeps of it
COPIES = {"sgd": 2, "adamw": 3}
CLASSES = 80  # because a file of data need not be read for this: COCO's classifier is the largest that is common
PIXEL_BYTES = 2  # of a PNG of photographs
PICTURES = 3  # truth and prediction in the folder, the photograph once more for W&B
MAX_SIDE = 1280  # px, as the overlays are drawn
LOG_BYTES = 1300  # a step: W&B's file and CSV took 1.9 MB for 1500 steps
JPEG_BYTES = 0.35  # a pixel of the generated crowd with its annotations; the easy one takes 0.25
PREFETCHED = 2  # batches that torch lets each worker prepare
SPARE_FILES = 256  # libraries, logs, the network connections of W&B


def check_disk(subject: Subject) -> Iterator[Line]:
    """Free space where the run and a crowd are written, against what they take; and whether writing works."""
    run, data = Path(subject.typed.paths.run), Path(subject.typed.data.root).expanduser()
    needs = [("the run", run, run_bytes(subject.typed))]
    if subject.to_be_drawn:
        needs.append(("the generated crowd", data, crowd_bytes(subject.typed)))
    for what, place, needed in needs:
        folder = _existing(place)
        free = shutil.disk_usage(folder).free
        text = f"{what}: about {gigabytes(needed)} in {place}, {gigabytes(free)} free"
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\0" * 4096)
        except OSError as error:
            option = "paths.runs" if place is run else "data.root"
            yield problem(f"{folder} cannot be written: {error}", f"set {option} to a folder of yours that can be written")
            continue
        remedy = "make room, or set paths.runs and paths.data to a larger disk"
        yield problem(text, remedy) if free < needed else warning(text, remedy) if free < 2 * needed else ok(text)


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    path = path.resolve()
    return next(folder for folder in [path, *path.parents] if folder.is_dir())


def run_bytes(cfg: Config) -> int:
    """Bytes of a whole run, roughly: checkpoints with the optimiser's state, pictures, logs."""
    with torch.device("meta"):
        network = build_model(cfg.model, CLASSES)
    numbers = sum(tensor.numel() for tensor in network.state_dict().values())
    checkpoints = CHECKPOINTS * COPIES[cfg.optim.name] * 4 * numbers
    overlays = (cfg.callbacks or {}).get("overlays") or {}
    scale = min(MAX_SIDE / cfg.data.test_max_size, 1)
    pixels = cfg.data.test_size * cfg.data.test_max_size * scale**2
    validations = -(-cfg.schedule.max_steps // cfg.schedule.val_every)
    pictures = validations * overlays.get("num_images", 0) * PICTURES * PIXEL_BYTES * pixels
    return int(checkpoints + pictures + LOG_BYTES * cfg.schedule.max_steps)


def crowd_bytes(cfg: Config) -> int:
    """Bytes of the generated crowd of ``cfg``, roughly."""
    assert isinstance(cfg.data, CrowdData)
    spec = crowd_spec(cfg.data)
    return int((spec.train_images + spec.val_images) * spec.height * spec.width * JPEG_BYTES)


def check_sharing(subject: Subject) -> Iterator[Line]:
    """Shared memory and open files, through which worker processes hand over their batches."""
    workers, batch = subject.typed.data.workers, subject.micro_batch
    if not workers:
        yield ok("data.workers is 0: nothing is shared")
        return
    waiting = workers * PREFETCHED
    shared, needed = Path("/dev/shm"), waiting * batch_bytes(subject.typed, batch)
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        text = f"{workers} workers share about {gigabytes(needed)}, {gigabytes(free)} free in {shared}"
        remedy = "give the container more (docker run --ipc=host, or --shm-size=8g), or set data.workers lower"
        yield problem(text, remedy) if free < needed else warning(text, remedy) if free < 2 * needed else ok(text)
    tensors = 2 + 4 * batch  # pixels with and without augmentation; boxes, labels, masks and regions of each image
    files, limit = SPARE_FILES + waiting * tensors, open_file_limit()
    text = f"up to {files} open files, {'any number' if limit is None else limit} allowed"
    yield ok(text) if limit is None or files <= limit else warning(text, f"ulimit -n {2 * files}, or set data.workers lower")


def batch_bytes(cfg: Config, batch: int) -> int:
    """Bytes of a prepared batch at its largest."""
    shorter, longest = max(cfg.data.train_size_range or cfg.data.train_sizes), cfg.data.train_max_size
    copies = 2 if cfg.data.photometric != "none" else 1
    masks = 20 if cfg.supervision == "mask" else 0  # people in a crowded image, a byte a pixel
    return batch * shorter * longest * (3 * copies + masks)
