"""When the run's checkpoints are written, ``last.ckpt`` at the end of a step and ``best.ckpt`` after a better validation; and how."""

from __future__ import annotations

import io
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from cis_seg.checkpoints import LAST, PREVIOUS, load_file
from cis_seg.runtime.atomic_files import PARTIAL, retry_while_disk_full, write_atomically
from cis_seg.runtime.compat import SavesAfterFit, run_validation, save_requeued_to
from cis_seg.runtime.signals import STOP_SIGNALS, SignalWatch, Stopped
from cis_seg.training.metrics import EvaluationResult
from cis_seg.training.resume import SCORED_STEP, resume_command, validation_due

log = logging.getLogger(__name__)


class AtomicCheckpointIO(CheckpointIO):
    """Writes checkpoints atomically, waits while the disk is full, and loads tensors and plain containers only.

    ``last.ckpt`` is kept as ``previous.ckpt`` when a new one replaces it. A checkpoint is a zip archive, whose CRC-32 checksums
    ``load_file`` verifies.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` to ``path``; wait while the disk is full."""
        target, buffer = Path(path), io.BytesIO()
        torch.save(checkpoint, buffer)  # in memory first, because torch's file writer hides the errno of a failed write
        content = buffer.getbuffer()
        target.parent.mkdir(parents=True, exist_ok=True)
        keep = (lambda: _keep_previous(target)) if target.name == LAST else None
        retry_while_disk_full(lambda: write_atomically(target, content, before_rename=keep), target, len(content))

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the checkpoint's content, with its tensors on the CPU.

        Raises:
            CheckpointError: the file is missing or corrupt.
        """
        return load_file(Path(path))

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete the file if it exists."""
        Path(path).unlink(missing_ok=True)


def _keep_previous(last: Path) -> None:
    """Link ``last`` as ``previous.ckpt``. On a file system without links it is renamed, and ``last`` is missing for a moment."""
    spare = last.with_name(PREVIOUS + PARTIAL)
    spare.unlink(missing_ok=True)
    if not last.is_file():
        return
    try:
        os.link(last, spare)
    except OSError:
        spare = last
    os.replace(spare, last.with_name(PREVIOUS))


class LastCheckpoint(Checkpoint):
    """Write ``last.ckpt`` at the end of a step: periodically, before each validation, at the last step, and when the run is stopped.

    Only the end of a step can be resumed exactly: within a step, and between the micro-batches of an accumulated one, gradients and
    counters are incomplete. An interrupted validation is repeated, because it changes nothing but the best score.

    SIGTERM and SIGINT are remembered until the step is completed; then the checkpoint is written and ``Stopped`` raised (exit codes 143
    and 130). A second SIGINT ends the run at once. Several processes agree on the step. SLURM's requeue signal is handled by Lightning,
    but at the end of the step, and its checkpoint is ``last.ckpt`` as well. ``trainer.should_stop``, set by a time limit or by early
    stopping, takes effect at the end of a step too; ``last.ckpt`` then includes the validation that Lightning runs before it stops.

    Args:
        folder: folder of the checkpoints.
        every_n_steps: optimiser steps between two writes.
        validation_every_n_steps: steps between two validations.

    Attributes:
        arguments: arguments of the command that started the run, for the command that continues it.
    """

    def __init__(self, folder: str, every_n_steps: int, validation_every_n_steps: int) -> None:
        self.path = Path(folder) / LAST
        self.every_n_steps, self.validation_every_n_steps = every_n_steps, validation_every_n_steps
        self.watch = SignalWatch()
        self.arguments: Sequence[str] = ()
        self._validation_due = False
        self._scored_step = -1
        self._stop_after_step = False

    def on_evaluation(self, result: EvaluationResult) -> None:
        self._scored_step = result.step

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._validation_due = validation_due(checkpoint, self.validation_every_n_steps)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[SCORED_STEP] = self._scored_step

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._watch(trainer)
        if self._validation_due:  # Lightning considers a validation completed once its step is saved
            self._validation_due = False
            run_validation(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._stop_after_step |= trainer.should_stop
        trainer.should_stop = False
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        trainer.should_stop = self._stop_after_step
        (signum, requeue), step = self._agreed(trainer), trainer.global_step
        last = trainer.should_stop or step == trainer.max_steps
        due = last or step % self.every_n_steps == 0 or step % self.validation_every_n_steps == 0
        if due or requeue or signum:
            for logger in trainer.loggers:
                logger.save()  # rows up to this step are not logged again after a resume
        if requeue:
            self._requeue(trainer)
        elif due or signum:
            trainer.save_checkpoint(self.path, weights_only=False)
        if signum:
            self._stop(trainer, signum)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._watch(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        if self.watch.received:  # nothing to save and nothing to agree on: the step before the validation is saved
            self._stop(trainer, self.watch.received)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Keeps the counts of early stopping, so that a resumed run trains on to its next validation; and the best score, because this
        # callback comes after BestCheckpoint.
        if trainer.state.fn == TrainerFn.FITTING and trainer.should_stop:
            trainer.save_checkpoint(self.path, weights_only=False)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.watch.received:
            self._stop(trainer, self.watch.received)

    def _watch(self, trainer: L.Trainer) -> None:
        """Replace Lightning's handler, which ends the run wherever the loop notices the signal and communicates from within a handler."""
        if trainer.received_sigterm:
            self.watch.received = STOP_SIGNALS[0]
        self.watch.install()

    def _agreed(self, trainer: L.Trainer) -> tuple[int, bool]:
        """Return the signal that ends the run and whether SLURM requests a requeue, received by any process; the same in all processes."""
        if trainer.world_size == 1:
            return self.watch.received, self.watch.requeue_wanted
        numbers = torch.tensor([self.watch.received, self.watch.requeue_wanted], device=trainer.strategy.root_device)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        signum, requeue = numbers.tolist()  # the only wait for the device in a step; Lightning's own loop has it too
        return signum, bool(requeue)

    def _stop(self, trainer: L.Trainer, signum: int) -> None:
        if trainer.is_global_zero:
            log.warning("saved step %d in %s\n  continue with: %s", trainer.global_step, self.path, resume_command(self.arguments))
        self.watch.received = 0
        raise Stopped(signum, f"after step {trainer.global_step}, which is saved in {self.path}")

    def _requeue(self, trainer: L.Trainer) -> None:
        """Call Lightning's handler of SLURM's signal: it saves and requeues the job; training goes on until SLURM ends it."""
        assert self.watch.requeue is not None
        self.watch.requeue_wanted = False
        save_requeued_to(trainer, str(self.path))
        self.watch.requeue(signal.SIGUSR1, None)


class BestCheckpoint(SavesAfterFit, ModelCheckpoint):
    """Lightning's ``ModelCheckpoint``, which also counts the validation after the last step and survives a move of the run's folder.

    Scores compare only under the same options: with other options in ``eval`` than the resumed checkpoint's, the best score is reset.
    """

    _comparable = True

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        module: Any = pl_module
        before, now = _scoring(checkpoint["cis_seg"]["config"]), _scoring(module.metadata["config"])
        self._comparable = all(now.get(key, value) == value for key, value in before.items())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score so far if it is comparable and its file is in this run's folder; start over otherwise."""
        assert self.dirpath is not None
        here = Path(self.dirpath)

        def moved(path: str) -> str:
            return str(here / Path(path).name) if path else path

        if not self._comparable or not Path(moved(state_dict["best_model_path"])).is_file():
            return
        paths = {name: moved(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | paths | {"dirpath": self.dirpath, "best_k_models": best})


def _scoring(config: dict[str, Any]) -> dict[str, Any]:
    """Return the options that scores depend on and that a resumed run may change."""
    return {key: value for key, value in config.get("eval", {}).items() if key != "draw_threshold"}
