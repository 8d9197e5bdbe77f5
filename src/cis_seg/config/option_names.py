"""Unknown option names: the message, with the nearest option or the one that has this name in another program."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from cis_seg.config.paths import conf_dir
from cis_seg.config.schema import DATA_SCHEMAS, DataConfig
from cis_seg.errors import ConfigError

#: option -> its names in ultralytics, mmdetection, detectron2, AdelaiDet, Lightning (also old releases) and PyTorch scripts, in lower case
OTHER_NAMES = {
    "schedule.max_steps": "epochs max_epochs num_epochs n_epochs total_epochs max_epoch epoch max_iter max_iters iterations iters steps "
    "total_steps num_steps n_steps train_steps",
    "schedule.val_every": "val_check_interval check_val_every_n_epoch val_interval eval_interval eval_period eval_steps val_period",
    "schedule.save_every": "save_period checkpoint_period save_steps save_interval save_freq checkpoint_interval",
    "schedule.decay_steps": "milestones lr_milestones lr_steps scheduler lr_scheduler lrf",
    "optim.batch_size": "batch bs batchsize ims_per_batch samples_per_gpu batch_size_per_gpu train_batch_size global_batch_size",
    "batch_size": "batch bs batchsize",
    "optim.lr": "lr lr0 base_lr learning_rate initial_lr",
    "optim.weight_decay": "wd decay",
    "optim.warmup_steps": "warmup warmup_iters warmup_epochs warmup_ratio",
    "optim.clip_norm": "clip_grad grad_clip clip_gradients max_grad_norm gradient_clip gradient_clip_val max_norm",
    "optim.accumulate": "accumulate_grad_batches gradient_accumulation_steps grad_accum accumulation_steps update_freq nbs",
    "optim.max_bad_steps": "terminate_on_nan",
    "optim": "optimizer solver",
    "model": "backbone arch architecture network net cfg",
    "data.root": "dataset data_root data_path data_dir dataset_root datasets dataset_path coco_path",
    "data.train_sizes": "imgsz img_size image_size imagesize img input_size img_scale resize min_size_train",
    "data.train_max_size": "max_size_train",
    "data.test_size": "imgsz img_size image_size img input_size img_scale min_size_test",
    "test_size": "imgsz img_size image_size img size input_size",
    "data.workers": "num_workers n_workers workers_per_gpu dataloader_workers nworkers",
    "data.flip": "fliplr hflip flip_prob horizontal_flip",
    "data.categories": "classes class_names category names single_cls num_classes nc",
    "categories": "classes class_names category names",
    "init_from": "weights pretrained load_from pretrained_weights load_weights finetune ckpt checkpoint",
    "checkpoint": "weights model ckpt ckpt_path load_from pretrained",
    "resume": "resume_from resume_from_checkpoint auto_resume ckpt_path resume_path",
    "name": "project exp_name experiment_name run_name exp",
    "paths.runs": "output_dir work_dir save_dir out_dir log_dir project outdir default_root_dir",
    "output": "output_dir save_dir out_dir project",
    "input": "source img imgs image images video path folder",
    "score_threshold": "conf conf_thres conf_threshold confidence score_thr score_thresh threshold",
    "eval.score_threshold": "conf conf_thres conf_threshold confidence score_thr score_thresh score_threshold",
    "nms_threshold": "iou iou_thres nms iou_threshold nms_thresh nms_thr",
    "eval.nms_threshold": "iou iou_thres nms iou_threshold nms_thresh nms_thr nms_threshold",
    "max_detections": "max_det max_per_img detections_per_image topk",
    "eval.max_detections": "max_det max_per_img detections_per_image max_detections",
    "seed": "random_seed manual_seed seed_everything",
    "logger": "loggers tensorboard wandb use_wandb",
    "callbacks.progress": "enable_progress_bar progress_bar_refresh_rate verbose",
    "trainer.devices": "device gpu gpus gpu_ids num_gpus n_gpus ngpus ngpu num_processes tpu_cores auto_select_gpus num_devices cuda",
    "trainer.accelerator": "device cpu",
    "device": "gpu gpus gpu_ids cuda cpu",
    "trainer.precision": "precision fp16 amp half bf16 mixed_precision use_amp amp_level amp_backend fp32 dtype",
    "trainer.use_distributed_sampler": "replace_sampler_ddp",
    "trainer.strategy": "distributed_backend ddp distributed",
    "trainer.enable_model_summary": "weights_summary",
    "trainer.limit_val_batches": "val_percent_check",
}
#: hint on the value of such an option
NOTES = {
    "schedule.max_steps": "the length of a run is counted in steps, not epochs",
    "trainer.precision": "trainer.precision=16-mixed, bf16-mixed or 32-true",
    "trainer.devices": "a number, as in trainer.devices=1",
    "trainer.accelerator": "trainer.accelerator=cpu or gpu",
    "data.root": "together with data=coco, for your own COCO json",
    "logger": "logger=csv, tensorboard or wandb",
    "callbacks.progress": "callbacks.progress=null switches the bar off",
}


def unknown_option(key: str, known: Collection[str], where: str | None = None) -> ConfigError:
    """Return the error for a name that is not an option.

    Args:
        key: the dotted name.
        known: the dotted names of the options and groups of the command.
        where: the config file that sets it.
    """
    parent = key.rpartition(".")[0]
    siblings = sorted(name for name in known if name.rpartition(".")[0] == parent)
    expected = f"one of {', '.join(name.rpartition('.')[2] for name in siblings)}" if siblings else None
    remedy: str | None
    if key in known:
        remedy = f"nest it: {key.replace('.', ': {')}: VALUE{'}' * key.count('.')}"
    elif elsewhere := [
        (name, data) for data, schema in DATA_SCHEMAS.items() for name in _names(key, _options_of(schema)) if name not in known
    ]:
        chosen = " or ".join(f"data={data}" for _, data in elsewhere)
        remedy = f"choose {chosen}, which has {elsewhere[0][0]}, or leave it out"
    else:
        remedy = _suggestion(key, known, siblings)
    return ConfigError(f"{key}: there is no such option", where=where, expected=expected, remedy=remedy)


def _options_of(schema: type) -> list[str]:
    """Return the options that only some data sets have."""
    return [f"data.{option.name}" for option in fields(schema) if option.name not in {common.name for common in fields(DataConfig)}]


def _names(key: str, known: Collection[str]) -> list[str]:
    """Return the options of ``known`` that this package or another program calls ``key``."""
    spelled = key.rpartition(".")[2].lower().replace("-", "_")
    other = [name for name, others in OTHER_NAMES.items() if name in known and spelled in others.split()]
    return [key] if key in known else other


def _suggestion(key: str, known: Collection[str], siblings: list[str]) -> str | None:
    leaf = key.rpartition(".")[2]
    close = _names(key, known) + [name for name in known if name.rpartition(".")[2] == leaf]
    if not close:
        leaves = {name.rpartition(".")[2]: name for name in siblings}
        close = [leaves[name] for name in difflib.get_close_matches(leaf, leaves, n=1)]
    if not close:
        groups = sorted(path.name for path in Path(conf_dir()).iterdir() if path.is_dir())
        names = [name for name in (*known, *groups) if not key.startswith(f"{name}.") and name not in siblings]
        close = difflib.get_close_matches(key, names, n=1)
    close = list(dict.fromkeys(close))[:3]
    notes = "; ".join(NOTES[name] for name in close if name in NOTES)
    return f"did you mean {' or '.join(close)}?{f' ({notes})' if notes else ''}" if close else None


def own_name(key: str, known: Collection[str]) -> tuple[str, str | None]:
    """Return this package's name for ``key`` and a hint on its value; ``key`` itself if it is unknown."""
    names = _names(key, known)
    name = names[0] if names else key
    return name, NOTES.get(name) if name != key else None


def dotted(tree: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every key in nested dicts."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield f"{prefix}{key}"
        yield from dotted(value, f"{prefix}{key}.")
