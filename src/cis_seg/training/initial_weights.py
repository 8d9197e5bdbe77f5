"""The initial weights of a run, and the options of the network that belong to them."""

from __future__ import annotations

import copy
import logging
from contextlib import nullcontext
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from cis_seg.checkpoints import LAST, checkpoint_metadata, init_from, load_file
from cis_seg.config.paths import conf_dir, experiment_of
from cis_seg.config.schema import Config, ModelConfig
from cis_seg.config.validation import node_from_plain
from cis_seg.errors import CheckpointError
from cis_seg.evaluation.scores import reported_step
from cis_seg.model.build import backbone_norm, load_backbone
from cis_seg.training.module import CondInstModule

log = logging.getLogger(__name__)

#: options of ``model`` that state what the weights expect, not how the network is trained
BELONG_TO_WEIGHTS = ("channel_order", "pixel_mean", "pixel_std", "backbone.stride_in_1x1", "backbone.norm")


def follow_weights(cfg: DictConfig, path: Path) -> DictConfig:
    """Return the config with the options of ``model`` that belong to weights taken from the checkpoint; a change is logged.

    Weights from AdelaiDet expect BGR and the stride in the first 1x1, those from torchvision RGB and the stride in the 3x3. The shapes are
    the same, and the wrong choice trains and scores poorly. Therefore the checkpoint takes precedence over the config.

    Raises:
        CheckpointError: the file is missing, corrupt, or not a checkpoint of ``cis_seg``.
    """
    theirs = node_from_plain(ModelConfig, checkpoint_metadata(load_file(path), path)["config"]["model"], path, "model")
    ours: ModelConfig = OmegaConf.to_object(cfg.model)  # type: ignore[assignment]
    for model in (theirs, ours):
        model.backbone.norm = backbone_norm(model.backbone)
    followed = copy.deepcopy(cfg)
    for option in BELONG_TO_WEIGHTS:
        before, after = (OmegaConf.select(OmegaConf.structured(model), option) for model in (ours, theirs))
        if before != after:
            OmegaConf.update(followed, f"model.{option}", after)
            log.info("model.%s follows the weights of %s: %s, not %s", option, path, after, before)
    return followed


def missing_base(cfg: Config) -> str | None:
    """Return the experiment that trains the missing checkpoint ``init_from``; None if it exists or belongs to no experiment.

    A base that this run may train itself (``base_overrides``) must also be finished: an interrupted one is continued.
    """
    base = Path(cfg.init_from or "")
    exists = base.is_file() and (cfg.base_overrides is None or _is_finished(base))
    return None if exists else experiment_of(base)


def _is_finished(base: Path) -> bool:
    """Return whether the run of the checkpoint ``base`` has been scored after its last step."""
    scored = reported_step(base.parents[1])
    return scored > 0 and scored >= _steps(base)[1]


def _steps(base: Path) -> tuple[int, int]:
    """Return the completed steps of a checkpoint, and the steps of its run."""
    content = load_file(base)
    return content.get("global_step", 0), checkpoint_metadata(content, base)["config"].get("schedule", {}).get("max_steps", 0)


def check_base_finished(cfg: Config) -> None:
    """Refuse the ``last.ckpt`` of a run that is training or was stopped, because it changes when that run continues.

    Raises:
        CheckpointError: the base is not finished.
    """
    base = Path(cfg.init_from or "")
    if cfg.base_overrides is not None or base.name != LAST or not base.is_file():
        return
    step, wanted = _steps(base)
    if step < wanted:
        experiment = experiment_of(base)
        command = f"python -m cis_seg.train experiment={experiment} seed={cfg.seed} resume=true" if experiment else "resume=true"
        raise CheckpointError(
            "the run that init_from points to is not finished",
            where=base,
            expected=f"{wanted} steps",
            found=f"step {step}",
            remedy=f"let it finish ({command}), or start from its current weights: copy the file and set init_from=COPY",
        )


def compose_base(experiment: str, cfg: Config) -> DictConfig:
    """Return the config of the run that trains ``cfg``'s base, with the same seed, folders and devices."""
    overrides = [
        f"experiment={experiment}",
        "resume=true",
        f"seed={cfg.seed}",
        f"paths.runs='{cfg.paths.runs}'",
        f"paths.data='{cfg.paths.data}'",
    ]
    overrides += [f"trainer.{key}={cfg.trainer[key]}" for key in ("accelerator", "devices", "num_nodes", "strategy", "precision")]
    if HydraConfig.initialized():
        logger = HydraConfig.get().runtime.choices.get("logger")
        overrides.append("~logger" if logger is None else f"logger={logger}")
    started = GlobalHydra.instance().is_initialized()
    with nullcontext() if started else initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose("config", overrides=[*overrides, *(cfg.base_overrides or [])])


def load_start(cfg: Config, module: CondInstModule, resume_path: Path | None, console: Console | None = None) -> None:
    """Initialise the network from another run, from pretrained files or at random; the trainer loads a resumed checkpoint itself.

    A table of the tensors taken from another run is printed to ``console``, by default the error stream.
    """
    if resume_path is not None:
        log.info("resuming from %s", resume_path)
    elif cfg.init_from is not None:
        init_from(module.model, Path(cfg.init_from), class_names=module.class_names, classifier=cfg.init_classifier, console=console)
    else:
        load_backbone(module.model, cfg.model.backbone)
