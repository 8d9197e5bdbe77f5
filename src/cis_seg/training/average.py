"""The running average of a network's weights (EMA): its update, and its place in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cis_seg.checkpoints import MODEL_PREFIX

#: prefix of the average in a module's state, and of the trained weights in a checkpoint where the average is the network
AVERAGE_PREFIX, TRAINED_PREFIX = "average.", "trained."


def momentum_after(step: int, limit: float) -> float:
    """Return the momentum of the update after training step ``step``, counted from 1: ``min(limit, 1 - 1 / (step + 1))``.

    Until the limit is reached, the average is the mean over all steps and the weights of the start (BoxTeacher).
    """
    return min(limit, 1 - 1 / (step + 1))


def follow(average: nn.Module, model: nn.Module, momentum: float) -> None:
    """Replace the weights and running statistics of ``average`` by ``momentum * average + (1 - momentum) * model``; counters are copied."""
    pairs = [*zip(average.parameters(), model.parameters(), strict=True), *zip(average.buffers(), model.buffers(), strict=True)]
    floats = [(own.detach(), other.detach()) for own, other in pairs if own.is_floating_point()]
    get_ema_multi_avg_fn(momentum)([own for own, _ in floats], [other for _, other in floats], 0)
    for own, other in pairs:
        if not own.is_floating_point():
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
