"""Two real training steps of the given run, and what they say about the whole: time, memory, the date of its end."""

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
from cis_seg.config.schema import CrowdData
from cis_seg.data.instance_datamodule import InstanceDataModule
from cis_seg.data.synthetic.files import ensure_crowd
from cis_seg.diagnostics.dataset import at_hand
from cis_seg.diagnostics.finding import Line, ok, problem, warning
from cis_seg.diagnostics.machine import gigabytes
from cis_seg.diagnostics.subject import Subject
from cis_seg.runtime.usage import peak_host_memory
from cis_seg.training.initial_weights import load_start

#: the first step finds memory and algorithms and is not timed
WARM_UP, TIMED = 1, 2
VAL_IMAGES = 2  # of the small crowd that stands in for one that is not drawn yet
SLOW_LOADING = 0.3  # share of a step spent waiting for images
LONG = 30 * 24 * 3600  # seconds


class Stopwatch(L.Callback):
    """When each optimiser step ended, how long it waited for images, and how long scoring took."""

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
        """Seconds a step."""
        return (self.ends[-1] - self.ends[WARM_UP - 1]) / TIMED

    @property
    def waiting(self) -> float:
        """Share of a step."""
        return (self.waited[-1] - self.waited[WARM_UP - 1]) / TIMED / self.step


def check_trial(subject: Subject) -> Iterator[Line]:
    """Trains and scores in a folder that is removed again; nothing of the run itself is touched."""
    with tempfile.TemporaryDirectory(prefix="cis_seg_doctor_") as folder, _quiet():
        data = _data(subject, Path(folder))
        watch, loss = Stopwatch(), math.nan
        try:
            loss = _train(subject, data, watch, Path(folder))
        except torch.OutOfMemoryError as error:
            remedy = f"the same batch in more parts: optim.accumulate={2 * subject.typed.optim.accumulate}; or smaller data.train_sizes"
            yield problem(f"{subject.micro_batch} images at once do not fit on the GPU: {str(error).splitlines()[0]}", remedy)
            return
    yield _pace(subject, watch)
    started = "" if at_hand(subject.typed) else ", from chance: its weights are not at hand"
    if math.isfinite(loss):
        yield ok(f"loss {loss:.3g} after {WARM_UP + TIMED} steps{started}; {_peak()}")
    else:
        yield problem(f"the loss is {loss} after {WARM_UP + TIMED} steps{started}", "lower optim.lr, or set trainer.precision=32-true")
    if watch.waiting > SLOW_LOADING:
        yield warning(f"{watch.waiting:.0%} of a step waits for images", f"set data.workers={subject.typed.data.workers + 2}")
    yield _duration(subject, data, watch)


def _data(subject: Subject, folder: Path) -> InstanceDataModule:
    """The run's data, with one device's share of the batch; of a crowd that is not drawn yet a few images."""
    data = subject.typed.data
    if subject.to_be_drawn:
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
    """Fits for the steps of the trial, scores one batch, returns the last loss."""
    L.seed_everything(subject.typed.seed, workers=True, verbose=False)
    module = build_module(subject.typed, subject.plain, data)
    if at_hand(subject.typed):
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
    return ok(f"{watch.step:.2f} s a step of {share}: {batch / watch.step:.1f} images/s; {watch.waiting:.0%} of it waits for images")


def _peak() -> str:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        total = torch.cuda.get_device_properties(0).total_memory
        return f"peak memory {gigabytes(torch.cuda.max_memory_reserved())} of {gigabytes(total)} on the GPU"
    peak = peak_host_memory()
    return "peak memory unknown" if peak is None else f"peak memory {gigabytes(peak)}"


def _duration(subject: Subject, data: InstanceDataModule, watch: Stopwatch) -> Line:
    """The schedule at this pace; scoring is timed with its set-up, so its part is an upper bound."""
    schedule, typed = subject.typed.schedule, subject.typed
    images = crowd_spec(typed.data).val_images if isinstance(typed.data, CrowdData) else len(data.val_dataset)
    tried = sum(min(len(dataset), data.cfg.test_batch_size) for dataset in data.scored_datasets)
    validations = -(-schedule.max_steps // schedule.val_every)
    training, scoring = schedule.max_steps * watch.step, validations * images * watch.scored_in / tried
    text = (
        f"{schedule.max_steps} steps in about {in_words(training)}, {validations} validations of {images} images in at most "
        f"{in_words(scoring)}"
    )
    if training + scoring > LONG:
        return warning(f"{text}: {in_words(training + scoring)}", "take a GPU or several (trainer.devices=2), a smaller model or schedule")
    return ok(text)


def in_words(seconds: float) -> str:
    """42 s, 12 min, 5.3 h, 3.1 days"""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit != "days" and seconds >= length):
            return f"{seconds / length:.1f} {unit}" if unit != "min" else f"{seconds / length:.0f} min"
    return f"{seconds:.0f} s"


@contextmanager
def _quiet() -> Iterator[None]:
    """Libraries say nothing: what matters is in the report."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
