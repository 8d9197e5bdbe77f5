"""Validation of ``trainer``'s devices and precision without torch: the checks that need no device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cis_seg.errors import ConfigError

#: values of trainer.precision; the short ones are other names of 32-true and the mixed ones
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed", "32", "16", "bf16")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
#: spellings of other tools and versions -> ours
_PRECISION_MEANT = {"16-true": "16-mixed", "fp16": "16-mixed", "half": "16-mixed", "bf16-true": "bf16-mixed", "bfloat16": "bf16-mixed"}
_REMOVED_STRATEGIES = ("dp", "ddp2", "ddp_spawn", "ddp_fork", "ddp_notebook", "horovod")


def device_count(devices: Any) -> int:
    """Return the number of devices that ``trainer.devices`` names; 1 for ``auto`` and -1, which depend on the machine."""
    if isinstance(devices, list):
        return len(devices)
    number = int(devices) if isinstance(devices, int) or str(devices).isdecimal() else 1
    return max(number, 1)


def device_problems(trainer: Any) -> Iterator[ConfigError]:
    """Yield an error for every device option of ``trainer`` that is invalid on any machine."""
    if not isinstance(trainer, Mapping):
        return
    checks = {"accelerator": _accelerator, "devices": _devices, "num_nodes": _num_nodes, "strategy": _strategy, "precision": _precision}
    for name, check in checks.items():
        if name in trainer and (wrong := check(trainer[name], trainer)) is not None:
            expected, remedy = wrong
            key = f"trainer.{name}"
            yield ConfigError(f"{key}: invalid value", where=key, expected=expected, found=repr(trainer[name]), remedy=remedy)


def _accelerator(value: Any, trainer: Mapping[str, Any]) -> tuple[str, str] | None:
    name, _, index = str(value).partition(":")
    if value in ACCELERATORS:
        return None
    remedy = f"trainer.accelerator=gpu 'trainer.devices=[{index}]'" if name in ("cuda", "gpu") and index.isdecimal() else None
    return f"one of {', '.join(ACCELERATORS)}", f"set {remedy or 'trainer.accelerator=auto, a GPU if there is one'}"


def _devices(value: Any, trainer: Mapping[str, Any]) -> tuple[str, str] | None:
    on_cpu = trainer.get("accelerator") == "cpu"
    indices = isinstance(value, list) and value and all(type(index) is int and index >= 0 for index in value)
    whole = type(value) is int and (value > 0 or (value == -1 and not on_cpu))
    digits = isinstance(value, str) and value.isdecimal() and int(value) > 0
    if value == "auto" or whole or digits or (indices and len(set(value)) == len(value) and not on_cpu):
        return None
    if on_cpu:
        return "1 or more processes", "set trainer.devices=1, or 2 for two processes"
    listed = [part for part in str(value).strip("[]").split(",") if part]
    named = isinstance(value, str) and listed and all(part.strip().isdecimal() for part in listed)
    meant = f"'trainer.devices=[{','.join(listed)}]'" if named and "," in value else None
    return "1 or more, [0,2] (indices of GPUs), -1 or auto (all)", f"set {meant or 'trainer.devices=1'}"


def _num_nodes(value: Any, trainer: Mapping[str, Any]) -> tuple[str, str] | None:
    return None if type(value) is int and value > 0 else ("1 or more machines", "set trainer.num_nodes=1")


def _strategy(value: Any, trainer: Mapping[str, Any]) -> tuple[str, str] | None:
    if isinstance(value, str) and value not in _REMOVED_STRATEGIES:
        return None
    return "auto or ddp (one process per device)", "set trainer.strategy=auto"


def _precision(value: Any, trainer: Mapping[str, Any]) -> tuple[str, str] | None:
    if str(value) in PRECISIONS:
        return None
    remedy = f"set trainer.precision={_PRECISION_MEANT.get(str(value).lower(), '32-true')}: the weights and the losses are float32"
    return ", ".join(PRECISIONS[:3]), remedy
