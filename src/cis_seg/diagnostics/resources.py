"""Checks of what a run takes from the machine: disk space, shared memory, open files, and a precision that is fast on it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from cis_seg.build import crowd_spec
from cis_seg.config.schema import Config, CrowdData
from cis_seg.diagnostics.findings import Line, ok, problem, warning
from cis_seg.diagnostics.machine import gigabytes
from cis_seg.diagnostics.subject import Subject
from cis_seg.model.build import build_model
from cis_seg.runtime.machine import on_gpu, open_file_limit, slow_precision

#: last, previous and best, and the one that is being written
CHECKPOINTS = 4
#: tensors of a parameter's size in a checkpoint: the parameter and the optimiser's state
COPIES = {"sgd": 2, "adamw": 3}
CLASSES = 80  # an upper bound (COCO's), so that no annotation file must be read
PIXEL_BYTES = 2  # per pixel of a photograph's PNG
PICTURES = 3  # ground truth and prediction in the run's folder, and the photograph for W&B
MAX_SIDE = 1280  # px, longer side of an overlay
LOG_BYTES = 1300  # per step: W&B's file and the CSV took 1.9 MB for 1500 steps
JPEG_BYTES = 0.35  # per pixel of the generated crowd, with its annotations; the easy preset takes 0.25
PREFETCHED = 2  # batches that each worker prepares (torch's default)
SPARE_FILES = 256  # libraries, logs, W&B's connections
#: channels, height, width: a tenth of a second in bf16 on a CPU without bf16 instructions, and long enough to time on a GPU
CPU_SIZE, GPU_SIZE = (64, 32, 48), (256, 200, 304)
REPEATS = 3
#: slowdown relative to the fastest precision that causes a warning; smaller ones may not show in a whole step
MUCH_SLOWER = 1.5
DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def check_disk(subject: Subject) -> Iterator[Line]:
    """Check that the folders of the run and of a generated crowd can be written and have enough free space."""
    run, data = Path(subject.typed.paths.run), Path(subject.typed.data.root).expanduser()
    needs = [("the run", run, run_bytes(subject.typed))]
    if subject.generates_crowd:
        needs.append(("the generated crowd", data, crowd_bytes(subject.typed)))
    for what, path, needed in needs:
        folder = _existing(path)
        free = shutil.disk_usage(folder).free
        text = f"{what}: about {gigabytes(needed)} in {path}, {gigabytes(free)} free"
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\0" * 4096)
        except OSError as error:
            option = "paths.runs" if path is run else "data.root"
            yield problem(f"{folder} cannot be written: {error}", f"set {option} to a writable folder")
            continue
        remedy = "free some space, or set paths.runs and paths.data to folders on a larger disk"
        yield problem(text, remedy) if free < needed else warning(text, remedy) if free < 2 * needed else ok(text)


def _existing(path: Path) -> Path:
    """Return ``path``, or its nearest parent that exists."""
    path = path.resolve()
    return next(folder for folder in [path, *path.parents] if folder.is_dir())


def run_bytes(cfg: Config) -> int:
    """Estimate the bytes of a whole run: checkpoints with the optimiser's state, pictures, logs."""
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
    """Estimate the bytes of the generated crowd of ``cfg``."""
    assert isinstance(cfg.data, CrowdData)
    spec = crowd_spec(cfg.data)
    return int((spec.train_images + spec.val_images) * spec.height * spec.width * JPEG_BYTES)


def check_sharing(subject: Subject) -> Iterator[Line]:
    """Check shared memory and the limit of open files, both of which pass batches between processes."""
    workers, batch = subject.typed.data.workers, subject.micro_batch
    if not workers:
        yield ok("data.workers is 0: nothing is shared")
        return
    waiting = workers * PREFETCHED
    shared, needed = Path("/dev/shm"), waiting * batch_bytes(subject.typed, batch)
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        text = f"{workers} workers share about {gigabytes(needed)}, {gigabytes(free)} free in {shared}"
        remedy = "give the container more (docker run --ipc=host, or --shm-size=8g), or lower data.workers"
        yield problem(text, remedy) if free < needed else warning(text, remedy) if free < 2 * needed else ok(text)
    tensors = 2 + 4 * batch  # pixels with and without augmentation; per image boxes, labels, masks and ignore regions
    files, limit = SPARE_FILES + waiting * tensors, open_file_limit()
    text = f"up to {files} open files, {'any number' if limit is None else limit} allowed"
    yield ok(text) if limit is None or files <= limit else warning(text, f"ulimit -n {2 * files}, or lower data.workers")


def batch_bytes(cfg: Config, batch: int) -> int:
    """Return the bytes of the largest possible batch."""
    shorter, longest = max(cfg.data.train_size_range or cfg.data.train_sizes), cfg.data.train_max_size
    copies = 2 if cfg.data.photometric != "none" else 1
    masks = 20 if cfg.supervision != "box" else 0  # instances of a crowded image, one byte per pixel
    return batch * shorter * longest * (3 * copies + masks)


def check_speed(subject: Subject) -> Iterator[Line]:
    """Time a 3x3 convolution, forward and backward, in every precision of this device."""
    gpu = on_gpu(subject.typed.trainer) and torch.cuda.is_available()
    device, size = ("cuda", GPU_SIZE) if gpu else ("cpu", CPU_SIZE)
    seconds = {name: convolution_seconds(device, dtype, size) for name, dtype in DTYPES.items() if gpu or name != "16-mixed"}
    fastest = min(seconds, key=seconds.__getitem__)
    shown = ", ".join(f"{1000 * value:.3g} ms in {name}" for name, value in seconds.items())
    text = f"a convolution takes {shown}: {fastest} is the fastest precision here"
    chosen = str(subject.typed.trainer["precision"])
    known = slow_precision(subject.typed.trainer) is not None  # the check of the devices has warned about it
    if not known and seconds.get(chosen, 0) > MUCH_SLOWER * seconds[fastest]:
        yield warning(text, f"set trainer.precision={fastest}")
    else:
        yield ok(text)


def convolution_seconds(device: str, dtype: torch.dtype, size: tuple[int, int, int]) -> float:
    """Return the shortest time of ``REPEATS`` runs in channels_last, with training's autocast."""
    channels, height, width = size
    layer = nn.Conv2d(channels, channels, 3, padding=1).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.ones(1, channels, height, width, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
            result = layer(image)
        result.float().sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
