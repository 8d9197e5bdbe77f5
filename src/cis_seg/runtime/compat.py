"""The private parts of other libraries that this package uses. No other module uses one (tests/test_architecture.py).

Each docstring names the library, the version, the reason and the upstream issue. Check this module first after an update.
It does not import torch or Lightning, so that the command line can use it.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def override_value(override: Any) -> Any:
    """Return the parsed value of a Hydra ``Override``.

    Hydra 1.3: the public ``value()`` strips the quotes; only ``_value`` shows whether the value was quoted.
    """
    return override._value


def hydra_flags() -> dict[str, int | str | None]:
    """Return the flags of Hydra's command line, each with argparse's number of values: 0, None for one, ``"?"`` for one that is optional.

    Hydra 1.3: its parser is internal, and argparse has no public list of a parser's arguments.
    """
    from hydra._internal.utils import get_args_parser

    return {flag: action.nargs for action in get_args_parser()._actions for flag in action.option_strings}


def config_root(node: Any) -> Any:
    """Return the whole config that an OmegaConf ``node`` belongs to.

    OmegaConf 2.3: an error refers to the node in which an unknown key was looked up, and no public method returns its root.
    """
    return node._get_root()


def worker_processes(batches: Any) -> Sequence[Any]:
    """Return the worker processes of a multi-process DataLoader iterator.

    torch 2.14: no public attribute holds them, and torch's timeout does not end a worker that hangs (pytorch#96629, Lightning#21554).
    """
    workers: Sequence[Any] = batches._workers
    return workers


class KillsWorkers:
    """Mixin of torch's ``DataLoader``: the shutdown of an iterator kills its workers, which is safe because they only read files.

    torch 2.14: ``_shutdown_workers`` waits without a limit for locks that a killed worker may hold, also if the garbage collector or the
    exit of the process calls it, and in a forked process it shuts down the workers of the parent (pytorch#39570).
    """

    def _get_iterator(self) -> Any:
        iterator: Any = super()._get_iterator()  # type: ignore[misc]
        if hasattr(iterator, "_workers"):
            iterator.__class__ = _killing(type(iterator))  # type: ignore[arg-type]
            iterator.owner = os.getpid()
        return iterator

    def close(self) -> None:
        """Kill the workers; the next pass starts new ones."""
        own: Any = self
        if own._iterator is not None:
            own._iterator._shutdown_workers()
            own._iterator = None


@functools.cache
def _killing(kind: type) -> type:
    return type(f"Killing{kind.__name__}", (_KillsOnShutdown, kind), {})


class _KillsOnShutdown:
    """Mixin of torch's ``_MultiProcessingDataLoaderIter``, see ``KillsWorkers``."""

    SECONDS = 5.0  # limit of the wait for the thread and for workers in uninterruptible sleep, which cannot be killed

    def _shutdown_workers(self) -> None:
        own: Any = self
        if own._shutdown or own.owner != os.getpid():
            return
        own._shutdown = True
        try:
            if hasattr(own, "_pin_memory_thread"):  # ends first, because it reads what the workers send
                own._pin_memory_thread_done_event.set()
                own._worker_result_queue.put((None, None))
                own._pin_memory_thread.join(self.SECONDS)
                own._worker_result_queue.cancel_join_thread()
                own._worker_result_queue.close()
        finally:
            self._kill_workers()

    def _kill_workers(self) -> None:
        from torch.utils.data._utils.signal_handling import _remove_worker_pids  # type: ignore[attr-defined]

        own: Any = self
        _remove_worker_pids(id(self))  # for other workers torch's SIGCHLD handler raises an error
        own._worker_pids_set = False
        for worker in own._workers:
            worker.kill()
        deadline = time.monotonic() + self.SECONDS
        for worker in own._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        for queue in own._index_queues:
            queue.cancel_join_thread()
            queue.close()


def skip_if(optimizer: Any, non_finite: Any) -> None:
    """Make the next step of a fused ``optimizer`` a no-op if the scalar tensor ``non_finite`` is 1.

    torch 2.14: only the gradient scaler sets ``found_inf``, which the fused kernels read on the device, without a host synchronisation.
    """
    optimizer.found_inf = non_finite


def allow_clipping(optimizer: Any) -> None:
    """Let Lightning clip the gradients of a fused ``optimizer`` that a gradient scaler has scaled.

    torch 2.14 marks fused optimisers with ``_step_supports_amp_scaling``, and Lightning 2.6 refuses to clip the gradients of a marked one
    (Lightning#15555, #21435). Without the mark the scaler unscales before the step, as it does for other optimisers.
    """
    optimizer._step_supports_amp_scaling = False


def run_validation(trainer: Any) -> None:
    """Run the validation that was due when the checkpoint being resumed was written.

    Lightning 2.6 regards a validation as done once its step is saved, and has no public method to run the loop inside ``fit``.
    """
    loop = trainer.fit_loop.epoch_loop.val_loop
    loop.restarting = False
    trainer.validating = True
    loop.run()
    trainer.training = True


def number_rows_from(trainer: Any, step: int) -> None:
    """Set the step that the next ``trainer.validate`` logs its metrics for.

    Lightning 2.6 uses ``_batches_that_stepped``, which after ``fit`` is one higher than within it.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped = step


def save_requeued_to(trainer: Any, path: str) -> None:
    """Make Lightning's handler of SLURM's requeue signal save to ``path``.

    Lightning 2.6 always saves to a new ``hpc_ckpt_N.ckpt``, where ``resume=true`` does not look (Lightning#9407, #19782).
    """
    trainer._checkpoint_connector.hpc_save_path = lambda folderpath: path


class SavesAfterFit:
    """Mixin of Lightning's ``ModelCheckpoint`` that also saves after a validation that follows the last step.

    Lightning 2.6 saves only while ``trainer.fit`` runs, which ``_should_skip_saving_checkpoint`` decides.
    """

    def _should_skip_saving_checkpoint(self, trainer: Any) -> bool:
        own: Any = self
        final = trainer.state.fn == "validate" and own._last_global_step_saved != trainer.global_step
        inherited: Callable[[Any], bool] = super()._should_skip_saving_checkpoint  # type: ignore[misc]
        return not final and inherited(trainer)


def drop_wandb_option(logger: Any, name: str) -> None:
    """Remove an option that Lightning's ``WandbLogger`` passes to ``wandb.init``.

    Lightning 2.6 passes ``anonymous`` even if it is not set, and W&B 0.31 warns that the option is deprecated.
    """
    logger._wandb_init.pop(name, None)


class ChangedGroundTruth:
    """Mixin of pycocotools' ``COCOeval`` that changes annotations for one evaluation, but not in the shared ground truth.

    pycocotools 2.0: ``_prepare`` overwrites ``ignore`` with ``iscrowd`` (cocoapi#123, #466), so the changes are applied after it.

    Attributes:
        changes: changed entries by annotation id: ``area``, ``ignore``, ``iscrowd``.
    """

    changes: Mapping[int, Mapping[str, Any]]

    def _prepare(self) -> None:
        super()._prepare()  # type: ignore[misc]
        groups: dict[Any, list[dict[str, Any]]] = self._gts  # type: ignore[attr-defined]
        for key, group in groups.items():
            groups[key] = [dict(annotation, **self.changes.get(annotation["id"], {})) for annotation in group]
