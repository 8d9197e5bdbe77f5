"""The arguments of Lightning's Trainer: their names, without importing Lightning, and those that an option of this package sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cis_seg.config.option_names import unknown_option
from cis_seg.config.schema import Config
from cis_seg.errors import ConfigError

#: of Lightning 2.6; tests/config/test_refusals.py compares them with its signature
_ARGUMENTS = """accelerator strategy devices num_nodes precision logger callbacks fast_dev_run max_epochs min_epochs max_steps min_steps
max_time limit_train_batches limit_val_batches limit_test_batches limit_predict_batches overfit_batches val_check_interval
check_val_every_n_epoch num_sanity_val_steps log_every_n_steps enable_checkpointing enable_progress_bar enable_model_summary
accumulate_grad_batches gradient_clip_val gradient_clip_algorithm deterministic benchmark inference_mode use_distributed_sampler
profiler detect_anomaly barebones plugins sync_batchnorm reload_dataloaders_every_n_epochs default_root_dir enable_autolog_hparams
model_registry"""
ARGUMENTS = frozenset(_ARGUMENTS.split())
#: the targets that take exactly these
TARGETS = ("lightning.Trainer", "lightning.pytorch.Trainer")
#: argument that a run would ignore or that would break it -> what to use instead
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


def trainer_option(key: str) -> ConfigError | None:
    """Return the error for an argument of the Trainer that the config does not list; None if ``key`` is another name."""
    parent, _, name = key.rpartition(".")
    if parent != "trainer" or name not in ARGUMENTS:
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
    for name in trainer:
        key = f"trainer.{name}"
        if name in REPLACED and (error := trainer_option(key)):
            yield error
        elif name not in ARGUMENTS and not name.startswith("_") and trainer.get("_target_") in TARGETS:
            known = {f"trainer.{argument}" for argument in ARGUMENTS - REPLACED.keys()}
            yield unknown_option(key, known | {"schedule.max_steps"}, None)
    for name, (value, remedy) in _derived(cfg).items():
        found = trainer.get(name)
        if found != value or isinstance(found, bool) != isinstance(value, bool):
            found = "nothing" if name not in trainer else found
            yield ConfigError(
                f"trainer.{name} is set by another option", where=f"trainer.{name}", expected=value, found=found, remedy=remedy
            )


def _derived(cfg: Config) -> dict[str, tuple[object, str]]:
    """Arguments with the one value that a run works with, and the option to set instead."""
    length = f"set schedule.max_steps={cfg.schedule.max_steps} or another number of steps, the length of the run"
    return {
        "max_steps": (cfg.schedule.max_steps, length),
        "max_epochs": (-1, length),
        "accumulate_grad_batches": (cfg.optim.accumulate, "set optim.accumulate, the micro-batches per step"),
        "gradient_clip_val": (cfg.optim.clip_norm, "set optim.clip_norm, the limit of the gradient norm"),
        "check_val_every_n_epoch": (None, "set schedule.val_every, the steps between validations"),
        "use_distributed_sampler": (False, "leave it out; the data module shares the images among the processes"),
        "default_root_dir": (cfg.paths.run, "set paths.run, the folder of the run"),
    }
