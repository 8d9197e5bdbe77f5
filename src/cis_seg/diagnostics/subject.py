"""The training run under examination: its config, data and warnings, read once for all checks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from cis_seg.build import build_training_data
from cis_seg.config import schema
from cis_seg.config.cli import prepared
from cis_seg.config.command_schema import register
from cis_seg.config.devices import device_count
from cis_seg.config.paths import conf_dir
from cis_seg.config.plain import to_dataclass, to_plain
from cis_seg.config.schema import Config, CrowdData
from cis_seg.config.validation import option_of, problems, without_effect
from cis_seg.data.instance_datamodule import InstanceDataModule
from cis_seg.diagnostics.findings import Line, explained, ok, problem, warning
from cis_seg.evaluation.scores import METRICS
from cis_seg.training.run_folder import checkpoints_of


def check_options(subject: Subject) -> Iterator[Line]:
    """Check ranges, conflicts and options without effect, and whether the run exists already."""
    wrong = [problem(*explained(error)) for error in problems(subject.typed)]
    yield from wrong
    idle = without_effect(subject.typed, [option_of(override) for override in subject.overrides])
    yield from (warning(line, "leave the option out, or change what it depends on") for line in idle)
    run = Path(subject.typed.paths.run)
    if not subject.typed.resume and (checkpoints_of(run) or (run / METRICS).is_file()):
        yield problem(f"the run {run} exists already", "continue it with resume=true, or choose another name=... or seed=...")
    if not wrong:
        given = ", ".join(subject.overrides) or "no overrides"
        yield ok(f"valid ({given}); run {run}")


class Subject:
    """A training run that has not started.

    Args:
        overrides: as for ``python -m cis_seg.train``.

    Raises:
        HydraException, OmegaConfBaseException: the overrides do not compose.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # otherwise it logs notes about the hardware above the report
        self.overrides = prepared(list(overrides), "config")
        register()
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            self.cfg: DictConfig = compose("config", overrides=self.overrides)
        self.plain: dict[str, Any] = to_plain(self.cfg)
        self.typed: Config = to_dataclass(self.cfg)
        self.data_warnings: list[str] = []  # warnings about the annotation files

    @property
    def micro_batch(self) -> int:
        """Images that one device processes at once."""
        parts = self.typed.optim.accumulate * device_count(self.typed.trainer["devices"])
        return max(self.typed.optim.batch_size // parts, 1)

    @property
    def generates_crowd(self) -> bool:
        """Whether the run will first generate its data."""
        root = Path(self.typed.data.root).expanduser()
        home = Path(self.typed.paths.data).resolve()
        empty = home in root.resolve().parents if not root.exists() else root.is_dir() and not any(root.iterdir())
        return isinstance(self.typed.data, CrowdData) and empty

    @cached_property
    def data(self) -> InstanceDataModule:
        """The data module, with its annotation files read.

        Raises:
            UserError: a file is missing or invalid.
        """
        assert not self.generates_crowd
        module = self.data_module(self.typed.data)
        with _warnings_of(logging.getLogger("cis_seg")) as self.data_warnings:
            module.setup("fit")
        return module

    def data_module(self, data: schema.DataConfig) -> InstanceDataModule:
        """Return a data module for ``data`` with this run's other options; its images are of the full size from the first step on."""
        return build_training_data(replace(self.typed, data=replace(data, half_size_steps=0)))


@contextmanager
def _warnings_of(logger: logging.Logger) -> Iterator[list[str]]:
    """Collect the warnings logged inside the block, so that the report can list them."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Collector(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
