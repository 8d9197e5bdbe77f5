"""A trial of the run: a few training steps and one scored batch, from which time and memory are estimated."""

from __future__ import annotations

import logging
import math
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from rich.console import Console

from cis_seg.build import build_module, crowd_spec
from cis_seg.config.schema import Config, CrowdData
from cis_seg.data.instance_datamodule import InstanceDataModule
from cis_seg.data.synthetic.files import ensure_crowd
from cis_seg.diagnostics.dataset import weights_available
from cis_seg.diagnostics.findings import Line, ok, problem, warning
from cis_seg.diagnostics.machine import gigabytes
from cis_seg.diagnostics.subject import Subject
from cis_seg.runtime.machine import peak_host_memory
from cis_seg.training.initial_weights import load_start

#: steps that are trained; the first one allocates memory and selects algorithms and is not timed
WARM_UP, TIMED = 1, 2
VAL_IMAGES = 2  # of the small crowd that replaces one that does not exist yet
SLOW_LOADING = 0.3  # fraction of a step spent waiting for images that causes a warning
HALF_SIZE = 0.4  # time of a step at half the size, of one at the full size: 0.29 to 0.44 in results/speed.md
LONG = 30 * 24 * 3600  # seconds of a run that cause a warning


class Stopwatch(L.Callback):
    """Records when each optimiser step ended, how long it waited for images, and how long scoring took."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.waited: list[float] = []
        self.scored_in = 0.0
        self._waiting = 0.0
        self._before: float | None = None

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if self._before is not None:
            self._waiting += time.perf_counter() - self._before

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._before = time.perf_counter()
        if trainer.global_step > len(self.ends):
            self.ends.append(self._before)
            self.waited.append(self._waiting)

    def on_validation_start(self, trainer: L.Trainer, *args: Any) -> None:
        self.scored_in = -time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, *args: Any) -> None:
        self.scored_in += time.perf_counter()

    @property
    def step(self) -> float:
        """Seconds per step."""
        return (self.ends[-1] - self.ends[WARM_UP - 1]) / TIMED

    @property
    def waiting(self) -> float:
        """Fraction of a step spent waiting for images."""
        return (self.waited[-1] - self.waited[WARM_UP - 1]) / TIMED / self.step


def check_trial(subject: Subject) -> Iterator[Line]:
    """Train and score in a temporary folder; the run's own folder is not touched."""
    with tempfile.TemporaryDirectory(prefix="cis_seg_doctor_") as folder, _quiet():
        data = _data(subject, Path(folder))
        watch, loss = Stopwatch(), math.nan
        try:
            loss = _train(subject, data, watch, Path(folder))
        except torch.OutOfMemoryError as error:
            accumulate = 2 * subject.typed.optim.accumulate
            remedy = f"split the batch into more micro-batches (optim.accumulate={accumulate}), or reduce data.train_sizes"
            yield problem(f"{subject.micro_batch} images at once do not fit on the GPU: {str(error).splitlines()[0]}", remedy)
            return
    yield _pace(subject, watch)
    started = "" if weights_available(subject.typed) else ", from random weights: the initial weights are not available yet"
    if math.isfinite(loss):
        yield ok(f"loss {loss:.3g} after {WARM_UP + TIMED} steps{started}; {_peak()}")
    else:
        yield problem(f"the loss is {loss} after {WARM_UP + TIMED} steps{started}", "lower optim.lr, or set trainer.precision=32-true")
    if watch.waiting > SLOW_LOADING:
        remedy = f"set data.workers={subject.typed.data.workers + 2}"
        yield warning(f"{watch.waiting:.0%} of a step is spent waiting for images", remedy)
    yield _duration(subject, data, watch)


def _data(subject: Subject, folder: Path) -> InstanceDataModule:
    """Return the run's data with one device's share of the batch; a few images of a crowd that is not generated yet."""
    data = subject.typed.data
    if subject.generates_crowd:
        assert isinstance(data, CrowdData)
        few = replace(data, root=str(folder / "crowd"), num_train=max(subject.micro_batch, VAL_IMAGES), num_val=VAL_IMAGES)
        ensure_crowd(folder / "crowd", crowd_spec(few), workers=1)
        module = subject.data_module(few)
        module.setup("fit")
    else:
        module = subject.data
    module.batch_size = subject.micro_batch * subject.typed.optim.accumulate
    return module


def _train(subject: Subject, data: InstanceDataModule, watch: Stopwatch, folder: Path) -> float:
    """Train the steps of the trial, score one batch and return the last loss."""
    L.seed_everything(subject.typed.seed, workers=True, verbose=False)
    module = build_module(subject.typed, subject.plain, data)
    if weights_available(subject.typed):
        load_start(subject.typed, module, None, console=Console(quiet=True))
    steps = WARM_UP + TIMED
    trainer: L.Trainer = instantiate(
        subject.cfg.trainer,
        max_steps=steps,
        devices=1,
        num_nodes=1,
        logger=False,
        callbacks=[watch],
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=1,
        val_check_interval=steps * subject.typed.optim.accumulate,
        default_root_dir=str(folder),
    )
    trainer.fit(module, datamodule=data)
    return float(trainer.callback_metrics["train/loss"])


def _pace(subject: Subject, watch: Stopwatch) -> Line:
    batch, whole = subject.micro_batch * subject.typed.optim.accumulate, subject.typed.optim.batch_size
    share = f"{batch} images" if batch == whole else f"{batch} of {whole} images (one device)"
    return ok(f"{watch.step:.2f} s per step of {share}: {batch / watch.step:.1f} images/s; {watch.waiting:.0%} spent waiting for images")


def _peak() -> str:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        total = torch.cuda.get_device_properties(0).total_memory
        return f"peak memory {gigabytes(torch.cuda.max_memory_reserved())} of {gigabytes(total)} on the GPU"
    peak = peak_host_memory()
    return "peak memory unknown" if peak is None else f"peak memory {gigabytes(peak)}"


def _duration(subject: Subject, data: InstanceDataModule, watch: Stopwatch) -> Line:
    """Estimate the duration of the whole run; that of scoring is an upper bound, because its set-up is timed too."""
    schedule, typed = subject.typed.schedule, subject.typed
    images = crowd_spec(typed.data).val_images if isinstance(typed.data, CrowdData) else len(data.val_dataset)
    tried = sum(min(len(dataset), data.cfg.test_batch_size) for dataset in data.scored_datasets)
    validations = -(-schedule.max_steps // schedule.val_every)
    training, scoring = full_size_steps(typed) * watch.step, validations * images * watch.scored_in / tried
    text = (
        f"{schedule.max_steps} steps in about {duration(training)}, {validations} validations of {images} images in at most "
        f"{duration(scoring)}"
    )
    if training + scoring > LONG:
        remedy = "use a GPU or several (trainer.devices=2), a smaller model or a shorter schedule"
        return warning(f"{text}: {duration(training + scoring)}", remedy)
    return ok(text)


def full_size_steps(cfg: Config) -> float:
    """Return the number of steps at the full size that take as long as the run's."""
    half = min(cfg.data.half_size_steps, cfg.schedule.max_steps)
    return cfg.schedule.max_steps - half + HALF_SIZE * half


def duration(seconds: float) -> str:
    """Format a duration: ``42 s``, ``12 min``, ``5.3 h``, ``3.1 days``."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit != "days" and seconds >= length):
            return f"{seconds / length:.1f} {unit}" if unit != "min" else f"{seconds / length:.0f} min"
    return f"{seconds:.0f} s"


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress log messages and warnings inside the block."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
