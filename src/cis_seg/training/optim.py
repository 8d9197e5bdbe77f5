"""The optimiser in two parameter groups, the learning rate by step, and the running average of the weights (EMA)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from cis_seg.checkpoints import MODEL_PREFIX
from cis_seg.config.schema import OptimConfig, ScheduleConfig
from cis_seg.runtime.compat import allow_clipping

#: layers whose parameters are not decayed
NORM_LAYERS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm)
#: prefix of the average in a module's state, and of the trained weights in a checkpoint where the average is the network
AVERAGE_PREFIX, TRAINED_PREFIX = "average.", "trained."


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return the trainable parameters in two groups: with weight decay, and those of norm layers without (as AdelaiDet; biases decay)."""
    norm = {id(p) for module in model.modules() if isinstance(module, NORM_LAYERS) for p in module.parameters()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if id(p) not in norm], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) in norm], "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, cfg: OptimConfig) -> Optimizer:
    """Return SGD with momentum, the reference's optimiser, or AdamW, with which the small network learns faster.

    Both use torch's fused kernels, which can skip a step by a flag on the device (``callbacks.bad_steps``). They require that a parameter,
    its gradient and its state have one order of memory; on a CPU they do not check it.

    Args:
        model: its trainable parameters are optimised.
        cfg: name, learning rate of the global batch (never rescaled), momentum (AdamW's first beta) and weight decay.
    """
    groups = parameter_groups(model, cfg.weight_decay)
    if cfg.name == "sgd":
        optimizer: Optimizer = SGD(groups, lr=cfg.lr, momentum=cfg.momentum, fused=True)
    else:
        optimizer = AdamW(groups, lr=cfg.lr, betas=(cfg.momentum, 0.999), fused=True)
    optimizer.register_load_state_dict_pre_hook(_keep_kernel)
    optimizer.register_load_state_dict_post_hook(_order_state)
    allow_clipping(optimizer)
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("momentum") else ():
            # SGD's kernel would leave its buffer uninitialised if the very first step is skipped
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _keep_kernel(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Keep the fused kernel when the state of a checkpoint is loaded, which may come from another one."""
    return state | {"param_groups": [group | {"fused": True, "foreach": None} for group in state["param_groups"]]}


def _order_state(optimizer: Optimizer) -> None:
    """Store the loaded state in its parameters' order of memory, which differs from the checkpoint's with another ``memory_format``."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)


def lr_factor(optim: OptimConfig, schedule: ScheduleConfig) -> Callable[[int], float]:
    """Return the factor of the learning rate as a function of the number of completed steps.

    Linear from ``warmup_factor`` to 1 over ``warmup_steps``, then times ``decay_factor`` at each of ``decay_steps``
    (the reference: 0.001 over 1000, 0.1 at two steps).
    """
    warmup_steps, warmup_factor = optim.warmup_steps, optim.warmup_factor

    def factor(step: int) -> float:
        decay: float = optim.decay_factor ** sum(step >= s for s in schedule.decay_steps)
        if step >= warmup_steps:
            return decay
        progress = step / warmup_steps
        return decay * (warmup_factor * (1 - progress) + progress)

    return factor


def build_optimizer(model: nn.Module, optim: OptimConfig, schedule: ScheduleConfig) -> tuple[Optimizer, LambdaLR]:
    """Return the optimiser of ``model`` and its scheduler, which is stepped once per training step."""
    optimizer = make_optimizer(model, optim)
    return optimizer, LambdaLR(optimizer, lr_factor(optim, schedule))


def momentum_after(step: int, limit: float) -> float:
    """Return the momentum of the update after training step ``step``, counted from 1: ``min(limit, 1 - 1 / (step + 1))``.

    Until the limit is reached, the average is the mean over all steps and the weights of the start (BoxTeacher).
    """
    return min(limit, 1 - 1 / (step + 1))


def follow(average: nn.Module, model: nn.Module, momentum: float, skipped: Tensor | float = 0.0) -> None:
    """Replace the weights and running statistics of ``average`` by ``momentum * average + (1 - momentum) * model``; counters are copied.

    Args:
        average: changed in place.
        model: the weights being trained.
        momentum: weight of the average.
        skipped: 1 if the step was skipped, which leaves the average as it is, else 0; a tensor, so that the host need not wait for a GPU.
    """
    weight = (1 - momentum) * (1 - skipped)
    pairs = [*zip(average.parameters(), model.parameters(), strict=True), *zip(average.buffers(), model.buffers(), strict=True)]
    for own, other in pairs:
        if own.is_floating_point():
            own.detach().lerp_(other.detach(), weight)
        else:
            own.copy_(other)


def as_network(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a module's state with the average in the place of the network, where every reader of a checkpoint looks for it."""
    return _renamed(state, {MODEL_PREFIX: TRAINED_PREFIX, AVERAGE_PREFIX: MODEL_PREFIX})


def as_trained(state: Mapping[str, Tensor], *, average: bool) -> dict[str, Tensor]:
    """Return the state of a module from a checkpoint's, the reverse of ``as_network`` if the average was in the place of the network.

    Args:
        state: of the checkpoint.
        average: the module has an average; it starts from the weights if the checkpoint has none.
    """
    if any(name.startswith(TRAINED_PREFIX) for name in state):
        state = _renamed(state, {MODEL_PREFIX: AVERAGE_PREFIX, TRAINED_PREFIX: MODEL_PREFIX})
    missing = average and not any(name.startswith(AVERAGE_PREFIX) for name in state)
    return {**state, **(_renamed(state, {MODEL_PREFIX: AVERAGE_PREFIX}) if missing else {})}


def _renamed(state: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    def new(name: str) -> str:
        return next((to + name.removeprefix(old) for old, to in prefixes.items() if name.startswith(old)), name)

    return {new(name): value for name, value in state.items()}
