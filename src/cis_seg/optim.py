"""The optimiser in two parameter groups and the learning rate by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from cis_seg.errors import ConfigError

#: layers whose parameters are not decayed
NORM_LAYERS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters in two groups: decayed, and the norm layers' without decay (REFERENCE.md, Training; biases decay)."""
    norm = {id(p) for module in model.modules() if isinstance(module, NORM_LAYERS) for p in module.parameters()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if id(p) not in norm], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) in norm], "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, *, name: str, lr: float, momentum: float, weight_decay: float) -> Optimizer:
    """SGD with momentum, as the reference trains, or AdamW, which the small network learns faster with.

    ``lr`` belongs to the global batch and is never rescaled here; AdamW takes ``momentum`` as its first beta.

    Raises:
        ConfigError: another name.
    """
    groups = parameter_groups(model, weight_decay)
    if name == "sgd":
        return SGD(groups, lr=lr, momentum=momentum)
    if name == "adamw":
        return AdamW(groups, lr=lr, betas=(momentum, 0.999))
    raise ConfigError("there is no such optimiser", where="optim.name", expected="sgd or adamw", found=name)


def lr_factor(*, warmup_steps: int, warmup_factor: float, decay_steps: Sequence[int], decay_factor: float) -> Callable[[int], float]:
    """The learning rate's factor as a function of the number of finished steps.

    Linear from ``warmup_factor`` to 1 over ``warmup_steps``, then times ``decay_factor`` at each of ``decay_steps``
    (the reference: 0.001 over 1000, 0.1 at two steps).
    """

    def factor(step: int) -> float:
        decay = decay_factor ** sum(step >= s for s in decay_steps)
        if step >= warmup_steps:
            return decay
        progress = step / warmup_steps
        return decay * (warmup_factor * (1 - progress) + progress)

    return factor


def build_schedule(optimizer: Optimizer, factor: Callable[[int], float]) -> LambdaLR:
    """A scheduler that is stepped once per training step."""
    return LambdaLR(optimizer, factor)
