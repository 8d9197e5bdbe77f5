"""Options that other libraries define: the arguments of Lightning's Trainer, of callbacks and of loggers, and Hydra's own options.

The arguments of a class that a config names by ``_target_`` are read from its source: importing it would import PyTorch.
"""

from __future__ import annotations

import ast
import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cis_seg.config.option_names import dotted, unknown_option
from cis_seg.config.schema import Config
from cis_seg.errors import ConfigError

TRAINER = "lightning.Trainer"
#: options of ``trainer`` that a run reads itself
NEEDED = ("_target_", "accelerator", "devices", "num_nodes", "strategy", "precision")
#: argument that a run would ignore or that would break it -> what to do instead
REPLACED = {
    "barebones": "leave it out; switch single callbacks off, as in callbacks.overlays=null",
    "callbacks": "add one to the group callbacks: +callbacks.mine._target_=my_package.MyCallback",
    "enable_checkpointing": "leave it out; schedule.save_every sets how often a run saves",
    "enable_progress_bar": "set callbacks.progress=null to switch the bar off",
    "fast_dev_run": "choose debug=fast, five steps and one validation",
    "limit_predict_batches": "leave it out; training does not predict",
    "limit_test_batches": "leave it out; training does not test",
    "limit_train_batches": "set schedule.max_steps, the length of the run",
    "logger": "choose logger=csv, tensorboard, wandb or null",
    "min_epochs": "set schedule.max_steps, the length of the run",
    "model_registry": "leave it out; logger.wandb.log_model=true uploads the checkpoints to W&B",
    "overfit_batches": "choose debug=overfit, which trains on sixteen images",
    "plugins": "leave it out; a run writes its checkpoints atomically by a plugin of its own",
    "reload_dataloaders_every_n_epochs": "leave it out; a run has one endless epoch",
    "val_check_interval": "set schedule.val_every, the steps between validations",
}


@functools.cache
def arguments_of(target: str) -> frozenset[str] | None:
    """Return the names of the arguments of a class. A class without a constructor takes those of its first base that has one.

    Args:
        target: dotted name of the class.

    Returns:
        The names; None if the source does not show them, as with ``**kwargs``, a decorated class or a module that does not exist.
    """
    module, _, name = target.rpartition(".")
    found = _definition(module, name)
    if found is None or found[1].decorator_list:
        return None
    module, definition = found
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            given = statement.args
            names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            return None if given.kwarg else frozenset(names[1:])  # without self
    for base in definition.bases:
        inherited = arguments_of(_imported(module, ast.unparse(base)))
        if inherited is None or inherited:
            return inherited
    return frozenset()


def _definition(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    """Return the class that ``name`` is in ``module``, which may import it, and the module that defines it."""
    for statement in _statements(module):
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return module, statement
    source = _imported(module, name)
    return None if source == f"{module}.{name}" else _definition(*source.rpartition(".")[::2])


def _imported(module: str, name: str) -> str:
    """Return the full dotted name of ``name`` in ``module``: ``lightning.Callback`` of ``L.Callback`` after ``import lightning as L``."""
    head, dot, rest = name.partition(".")
    for statement in _statements(module):
        aliases = statement.names if isinstance(statement, ast.Import | ast.ImportFrom) else ()
        for alias in aliases:
            if head == (alias.asname or alias.name):
                origin = f"{statement.module}." if isinstance(statement, ast.ImportFrom) else ""
                return f"{origin}{alias.name}{dot}{rest}"
    return f"{module}.{name}"


@functools.cache
def _statements(module: str) -> tuple[ast.stmt, ...]:
    """Return the statements of a module; none if its file is not found."""
    package, *parts = module.split(".")
    try:
        spec = find_spec(package)  # of a package on the top level, which does not import it
    except (ImportError, ValueError):
        spec = None
    folders = [Path(folder) for folder in (spec.submodule_search_locations or () if spec else ())]
    files = [Path(folder, *parts, "__init__.py") for folder in folders] + [Path(folder, *parts).with_suffix(".py") for folder in folders]
    if spec is not None and spec.origin and not parts:
        files = [Path(spec.origin)]
    file = next((file for file in files if file.is_file() and file.suffix == ".py"), None)
    return () if file is None else tuple(ast.parse(file.read_bytes()).body)


def trainer_option(key: str) -> ConfigError | None:
    """Return the error for an argument of the Trainer that the config does not list; None if ``key`` is another name."""
    parent, _, name = key.rpartition(".")
    if parent != "trainer" or name not in (arguments_of(TRAINER) or ()):
        return None
    if name in REPLACED:
        return ConfigError(f"{key} cannot be set", where=key, remedy=REPLACED[name])
    return ConfigError(f"{key}: the config does not list this option of Lightning's Trainer", remedy=f"add it with a +: +{key}=VALUE")


def trainer_problems(cfg: Config) -> Iterator[ConfigError]:
    """Yield an error for every option under ``trainer`` that the Trainer does not have, or that the run would ignore."""
    trainer: Any = cfg.trainer
    if not isinstance(trainer, Mapping):
        remedy = "leave it out, or choose trainer=default"
        yield ConfigError("trainer: a run needs Lightning's Trainer", where="trainer", expected="its options", found=trainer, remedy=remedy)
        return
    for name in NEEDED:
        if name not in trainer:
            yield ConfigError(f"trainer.{name} cannot be deleted", where=f"trainer.{name}", remedy=f"leave ~trainer.{name} out")
    for name in trainer:
        if name in REPLACED and (error := trainer_option(f"trainer.{name}")):
            yield error
    yield from _unknown_arguments("trainer", trainer, also=["schedule.max_steps"])
    for name, (value, remedy) in _derived(cfg).items():
        found = trainer.get(name)
        if found != value or isinstance(found, bool) != isinstance(value, bool):
            found = "nothing" if name not in trainer else found
            yield ConfigError(
                f"trainer.{name} is set by another option", where=f"trainer.{name}", expected=value, found=found, remedy=remedy
            )


def target_problems(cfg: Config) -> Iterator[ConfigError]:
    """Yield an error for every entry that is not a callback or logger, and for every argument that its class does not have."""
    for group in ("callbacks", "logger"):
        entries = getattr(cfg, group) or {}
        for name, entry in entries.items() if isinstance(entries, Mapping) else [("", entries)]:
            key = f"{group}.{name}".rstrip(".")
            if isinstance(entry, Mapping) and "_target_" in entry:
                yield from _unknown_arguments(key, entry)
                yield from _unlogged_metric(key, entry)
            elif entry is not None:
                close = difflib.get_close_matches(name, [other for other in entries if other != name], n=1)
                yield ConfigError(
                    f"{key} is not a {group.removesuffix('s')}",
                    where=key,
                    expected="a mapping with the name of its class as _target_, or null",
                    found=repr(entry),
                    remedy=f"did you mean {group}.{close[0]}?" if close else f"set {key}._target_, or switch it off: {key}=null",
                )


def _unknown_arguments(key: str, entry: Mapping[str, Any], also: Sequence[str] = ()) -> Iterator[ConfigError]:
    arguments = arguments_of(str(entry.get("_target_")))
    if arguments is not None:
        known = {f"{key}.{argument}" for argument in arguments - REPLACED.keys()} | set(also)
        unknown = [name for name in entry if name not in arguments and not name.startswith("_")]
        yield from (unknown_option(f"{key}.{name}", known) for name in unknown)


def _unlogged_metric(key: str, entry: Mapping[str, Any]) -> Iterator[ConfigError]:
    """Yield an error for a metric to monitor that no run logs, which Lightning would report only after the first validation."""
    monitor = entry.get("monitor")
    if isinstance(monitor, str) and not re.fullmatch(r"(val|train|train_set)/\w+", monitor):
        yield ConfigError(
            f"{key}.monitor: no metric has this name",
            where=f"{key}.monitor",
            expected="val/score, val/segm_AP, val/bbox_AP, train/loss or another curve of the run's log",
            found=monitor,
            remedy=f"{key}.monitor=val/score {key}.mode=max stops by mask AP",
        )


def hydra_problems(hydra: Any) -> Iterator[ConfigError]:
    """Yield an error for every option that a ``+`` has added to Hydra's own options, which Hydra ignores."""
    added = [key for key in _added(hydra, "hydra.") if key != "hydra.env"]  # a group of Hydra's own without an option
    known = set(dotted(OmegaConf.to_container(hydra), "hydra.")) - {"hydra.env", *added}
    yield from (unknown_option(key, known) for key in added)


def _added(node: DictConfig, prefix: str) -> Iterator[str]:
    """Yield the dotted names in ``node`` that its dataclass does not have; plugins (sweeper, launcher) check their own."""
    types = {option.name: option.type for option in fields(OmegaConf.get_type(node))}  # type: ignore[arg-type]
    for name, value in ((str(key), value) for key, value in node.items_ex(resolve=False)):
        if name not in types:
            yield prefix + name
        elif is_dataclass(types[name]):
            yield from _added(value, f"{prefix}{name}.")


def _derived(cfg: Config) -> dict[str, tuple[object, str]]:
    """Arguments with the one value that a run works with, and the option to set instead."""
    length = f"set schedule.max_steps={cfg.schedule.max_steps} or another number of steps, the length of the run"
    return {
        "max_steps": (cfg.schedule.max_steps, length),
        "max_epochs": (-1, length),
        "accumulate_grad_batches": (cfg.optim.accumulate, "set optim.accumulate, the micro-batches per step"),
        "gradient_clip_val": (cfg.optim.clip_norm, "set optim.clip_norm, the maximum gradient norm"),
        "check_val_every_n_epoch": (None, "set schedule.val_every, the steps between validations"),
        "use_distributed_sampler": (False, "leave it out; the data module shares the images among the processes"),
        "default_root_dir": (cfg.paths.run, "set paths.run, the folder of the run"),
    }
