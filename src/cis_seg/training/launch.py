"""One process per device: torch's launcher runs ``cis_seg.training.rank``, and the first error of any process is reported.

Lightning would start the same command again in every process, including overrides and sweeps. Here the config is composed once, every
process receives it resolved, and rank 0 writes the run. A job of a multirun therefore behaves like any other run. Processes that torchrun
or SLURM has started are used as they are.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import Signals, getsignal, signal
from typing import Any, NoReturn

import lightning as L
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import OmegaConf
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from cis_seg.config.cli import EXIT_USER_ERROR
from cis_seg.errors import ConfigError, UserError
from cis_seg.evaluation.scores import OBJECTIVE, read_metrics

#: environment variables by which a launcher passes a process its rank; those of an outer launcher would confuse the inner one
RANK_VARIABLES = ("RANK", "LOCAL_", "WORLD_SIZE", "GROUP_", "NODE_RANK", "ROLE_", "MASTER_", "TORCHELASTIC_", "SLURM_")
#: seconds before the remaining processes are killed once one has ended; also the time to save a checkpoint after SIGTERM
GRACE = 30
#: terms of which each trains the mask branch and the controller
MASK_TERMS = ("mask", "proj", "pairwise", "overlap", "teacher")
#: of the Trainer's device options; every machine can run with them
DEFAULTS = {"accelerator": "auto", "devices": 1, "num_nodes": 1, "strategy": "auto"}
HANDLED = [number for number in Signals if number.name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")]  # Windows lacks two


def processes_to_start(trainer: Mapping[str, Any]) -> int:
    """Return how many processes this one must start for the ``trainer`` options; 0 if it trains itself.

    Raises:
        ConfigError: the devices do not exist, or torchrun or SLURM started a different number of processes.
    """
    wish = {key: trainer[key] for key in DEFAULTS}
    try:
        probe = L.Trainer(**wish, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    except (MisconfigurationException, ValueError, TypeError, ImportError) as error:
        changed = [key for key, value in DEFAULTS.items() if wish[key] not in (value, "cpu")] or list(DEFAULTS)
        remedy = "set " + ", ".join(f"trainer.{key}={DEFAULTS[key]}" for key in changed)
        where = ", ".join(f"trainer.{key}={wish[key]}" for key in changed)
        raise ConfigError("these devices cannot be used", where=where, found=error, remedy=remedy) from error
    wanted, launcher, started = probe.num_devices * probe.num_nodes, *_started()
    if started == wanted:
        return 0
    if launcher is None and probe.num_nodes > 1:
        raise ConfigError(
            "trainer.num_nodes > 1 needs a launcher, such as torchrun or SLURM",
            where="trainer.num_nodes",
            found=f"{probe.num_nodes} nodes, and no launcher",
            remedy="start the run on every node as in docs/distributed.md, or set trainer.num_nodes=1",
        )
    if launcher == "torchrun" or started > 1 or probe.num_nodes > 1:
        raise ConfigError(
            "the number of running processes does not match the trainer's",
            where="trainer.devices, trainer.num_nodes",
            expected=f"{started} in total (the number that {launcher} started)",
            found=f"{probe.num_devices} devices x {probe.num_nodes} nodes = {wanted}",
            remedy="set trainer.devices to the processes per node and trainer.num_nodes to the nodes, as in "
            "docs/distributed.md; on one machine omit torchrun",
        )
    if not hasattr(os, "killpg"):
        raise ConfigError("several processes cannot be started on Windows", where="trainer.devices", remedy="set trainer.devices=1")
    return wanted


def strategy(trainer: Mapping[str, Any], weights: Mapping[str, float]) -> str:
    """Return the strategy of the ``trainer`` options; with several processes, the one that allows parameters without a gradient if needed.

    A weight of 0 can leave an output without a loss. DistributedDataParallel waits for the gradient of every parameter by default;
    searching for unused ones costs time in every step, which other runs need not spend.
    """
    chosen: str = trainer["strategy"]
    idle = not all(weights[name] for name in ("cls", "box", "ctr")) or not any(weights[name] for name in MASK_TERMS)
    return "ddp_find_unused_parameters_true" if idle and chosen in ("auto", "ddp") and _started()[1] > 1 else chosen


def is_first() -> bool:
    """Return whether this process is rank 0, the only one that writes files; known before a process group exists."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0


def _started() -> tuple[str | None, int]:
    """Return the launcher that started this process, and how many it started in all."""
    if TorchElasticEnvironment.detect():
        return "torchrun", int(os.environ["WORLD_SIZE"])
    if SLURMEnvironment.detect():
        return "SLURM", int(os.environ["SLURM_NTASKS"])
    return None, 1


def launch(task: str, plain: dict[str, Any], processes: int, run: Path, arguments: Sequence[str] = ()) -> float | None:
    """Run ``task`` on the resolved config in ``processes`` processes of this machine and return the sweep's objective.

    The first failure ends the run: the other processes are stopped, and the error of the first one is printed. A signal to this process
    is passed on. The processes end when this one ends, in whatever way.

    Args:
        task: dotted name of the training function.
        plain: the resolved config as plain containers.
        processes: number of processes.
        run: the run's folder.
        arguments: arguments of the command.

    Raises:
        UserError: the first process to fail reported this error.
        SystemExit: any other failure, with its exit code; 128 + the signal that stopped the run.
    """
    with tempfile.TemporaryDirectory(prefix="cis_seg_") as folder, _environment(processes), _signals_restored():
        job = Path(folder) / "job.json"
        job.write_text(
            json.dumps({"task": task, "config": plain, "arguments": [*arguments], "logging": _logging(), "launcher": os.getpid()}),
            encoding="utf-8",
        )
        try:
            elastic_launch(_launch_config(processes, folder), sys.executable)("-m", "cis_seg.training.rank", str(job))
        except ChildFailedError as error:
            _kill_children(error.failures)
            _report_first(error.failures, processes)
        except SignalException as error:
            raise SystemExit(128 + error.sigval) from None
    return read_metrics(run).get(OBJECTIVE)


def _launch_config(processes: int, folder: str) -> LaunchConfig:
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # its messages are replaced by the ones below
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # any free port
        local_addr="localhost",  # the machine's own name may not resolve
        max_restarts=0,  # a run continues from its checkpoint when it is started again
        logs_specs=DefaultLogsSpecs(log_dir=folder),
    )


def _logging() -> dict[str, Any] | None:
    """Return Hydra's logging configuration, so that rank 0 logs to the same place in the same format; None without Hydra."""
    if not HydraConfig.initialized():
        return None
    plain = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@contextmanager
def _environment(processes: int) -> Iterator[None]:
    """Set the environment of the processes: no rank of an outer launcher, and no more threads than processors."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(RANK_VARIABLES):
            del os.environ[name]
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // processes, 1)))
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(GRACE)
    if "lo" in (name for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all are on this machine, whatever its name resolves to
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _signals_restored() -> Iterator[None]:
    """Restore the signal handlers afterwards, because torch's launcher leaves its own behind."""
    before = {number: getsignal(number) for number in HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal(number, handler)


def _kill_children(failures: Mapping[int, ProcessFailure]) -> None:
    """Kill the data loading workers of dead processes, which would notice only after some seconds."""
    for failure in failures.values():
        with suppress(ProcessLookupError):
            os.killpg(failure.pid, Signals.SIGKILL)  # each process is the leader of a group


def _report_first(failures: Mapping[int, ProcessFailure], processes: int) -> NoReturn:
    """Report the error of the first process that failed; the others' errors are consequences of it."""
    rank, failure = min(failures.items(), key=lambda item: _moment(item[1]))
    said = failure.error_file_data if failure.exitcode > 0 else {}
    if said.get("exitcode") == EXIT_USER_ERROR:
        raise UserError(said["message"])
    which = f"process {rank} of {processes}"
    if "exitcode" in said:
        print(f"{said['message']}\n{which} failed first; the others were stopped", file=sys.stderr)
    elif failure.exitcode < 0:
        print(_killed(which, Signals(-failure.exitcode)), file=sys.stderr)
    raise SystemExit(failure.exitcode if failure.exitcode > 0 else 1)


def _moment(failure: ProcessFailure) -> tuple[bool, float]:
    """Return when a process failed, as it recorded or up to a second later; those that SIGTERM stopped sort last."""
    stopped = failure.exitcode in (-Signals.SIGTERM, 128 + Signals.SIGTERM)
    return stopped, float(failure.error_file_data.get("timestamp", failure.timestamp - 1))


def _killed(which: str, death: Signals) -> UserError:
    return UserError(
        f"error: {which} was killed; the others were stopped",
        found=f"signal {int(death)} ({death.name})",
        remedy="continue with resume=true; if it happens again, check whether memory ran out (dmesg shows what the kernel killed)",
    )
