"""When the run's checkpoints are written: ``last.ckpt`` at any safe point, ``best.ckpt`` after a better validation."""

from __future__ import annotations

import logging
import shlex
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from cis_seg.checkpoints.reading import LAST
from cis_seg.runtime.compat import SavesAfterFit, run_validation, save_requeued_to
from cis_seg.runtime.signals import STOPPING, SignalWatch, Stopped
from cis_seg.training.evaluation_result import EvaluationResult

log = logging.getLogger(__name__)

#: where a checkpoint keeps the step of the last validation that was scored to its end
SCORED_STEP = "scored_step"


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` at the end of a step: every so often, before each validation, at the last step, and when a signal ends the run.

    A step's end is the one moment from which a run continues exactly: within a step, or between the parts of an accumulated one, gradients
    and counters are half done. A validation is long and changes nothing but the best score, so it is repeated where it was cut off.

    SIGTERM and SIGINT are remembered until the step is done; then the checkpoint is written and ``Stopped`` raised (exit code 143 and 130).
    A second SIGINT ends the run at once. With several processes they agree on the step. SLURM's requeue signal is Lightning's, put off to
    the end of the step, and its checkpoint is ``last.ckpt`` as well.

    Args:
        folder: of the checkpoints.
        every_n_steps: optimiser steps between two writes.
        validation_every_n_steps: steps between two validations.

    Attributes:
        arguments: of the command that started the run, for the command that continues it.
    """

    def __init__(self, folder: str, every_n_steps: int, validation_every_n_steps: int) -> None:
        self.path = Path(folder) / LAST
        self.every_n_steps, self.validation_every_n_steps = every_n_steps, validation_every_n_steps
        self.watch = SignalWatch()
        self._validation_due = False
        self._scored_step = -1
        self.arguments: Sequence[str] = ()

    def on_evaluation(self, result: EvaluationResult) -> None:
        self._scored_step = result.step

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._validation_due = validation_due(checkpoint, self.validation_every_n_steps)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[SCORED_STEP] = self._scored_step

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._watch(trainer)
        if self._validation_due:  # Lightning takes a validation for done when its step was saved
            self._validation_due = False
            run_validation(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        (signum, requeue), step = self._agreed(trainer), trainer.global_step
        due = step % self.every_n_steps == 0 or step % self.validation_every_n_steps == 0 or step == trainer.max_steps
        if due or requeue or signum:
            for logger in trainer.loggers:
                logger.save()  # because what a log lacks up to here is not logged again
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
        if self.watch.received:  # nothing to save: the step of a validation was, so every process may go by itself
            self._stop(trainer, self.watch.received)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.watch.received:
            self._stop(trainer, self.watch.received)

    def _watch(self, trainer: L.Trainer) -> None:
        """Takes over from Lightning, whose handler ends the run wherever the loop notices it, and talks to other processes from within."""
        if trainer.received_sigterm:
            self.watch.received = STOPPING[0]
        self.watch.install()

    def _agreed(self, trainer: L.Trainer) -> tuple[int, bool]:
        """The signal that is to end the run, and whether SLURM's has come, to any process by the end of this step; the same in all."""
        if trainer.world_size == 1:
            return self.watch.received, self.watch.requeue_wanted
        numbers = torch.tensor([self.watch.received, self.watch.requeue_wanted], device=trainer.strategy.root_device)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        signum, requeue = numbers.tolist()  # the only wait for the device in a step, which Lightning's own loop has too
        return signum, bool(requeue)

    def _stop(self, trainer: L.Trainer, signum: int) -> None:
        if trainer.is_global_zero:
            arguments = [a for a in self.arguments if not a.startswith("resume=")]
            command = shlex.join(["python", "-m", "cis_seg.train", *arguments, "resume=true"])
            log.warning("saved step %d in %s\n  continue with: %s", trainer.global_step, self.path, command)
        self.watch.received = 0
        raise Stopped(signum, f"after step {trainer.global_step}, which {self.path} holds")

    def _requeue(self, trainer: L.Trainer) -> None:
        """Lightning's handler of SLURM's signal: saves, and asks SLURM for the job's next turn; training goes on until SLURM ends it."""
        assert self.watch.requeue is not None
        self.watch.requeue_wanted = False
        save_requeued_to(trainer, str(self.path))
        self.watch.requeue(signal.SIGUSR1, None)


def validation_due(checkpoint: Mapping[str, Any], every_n_steps: int) -> bool:
    """Whether a checkpoint was written before the validation of its step was over."""
    step: int = checkpoint.get("global_step", 0)
    return step > 0 and step % every_n_steps == 0 and checkpoint.get(SCORED_STEP) != step


class BestCheckpoint(SavesAfterFit, ModelCheckpoint):
    """Lightning's, which also counts the validation after the last step, and knows its file again in a run's folder that was moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the best score so far if the file it belongs to is in this run's folder; starts anew otherwise."""
        assert self.dirpath is not None
        here = Path(self.dirpath)

        def moved(path: str) -> str:
            return str(here / Path(path).name) if path else path

        if not Path(moved(state_dict["best_model_path"])).is_file():
            return
        paths = {name: moved(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | paths | {"dirpath": self.dirpath, "best_k_models": best})
