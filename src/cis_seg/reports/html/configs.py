"""The differences between the configs of several experiments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ABSENT = "(absent)"  # a key unknown to the version that wrote the config


def differences(configs: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, dict[str, str]]:
    """Return the keys whose values differ between experiments.

    The run folder and the seed number inside paths are ignored, because they differ for every run.

    Args:
        configs: experiment -> the configs of its seeds, as plain containers.

    Returns:
        Dotted key -> experiment -> value; different values of the seeds are joined by commas.
    """
    flat = {name: [flattened(config) for config in seeds] for name, seeds in configs.items()}
    keys = dict.fromkeys(key for seeds in flat.values() for config in seeds for key in config if key not in ("name", "seed"))
    rows = {
        key: {name: ", ".join(dict.fromkeys(config.get(key, ABSENT) for config in seeds)) for name, seeds in flat.items()} for key in keys
    }
    return {key: row for key, row in rows.items() if len(set(row.values())) > 1}


def flattened(config: dict[str, Any]) -> dict[str, str]:
    """Return ``{"a": {"b": 1}}`` as ``{"a.b": "1"}``, with the run folder and the seed in paths masked; lists stay whole."""
    run, seed = str((config.get("paths") or {}).get("run") or ""), str(config.get("seed"))
    texts = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in _leaves(config)}
    return {key: (text.replace(run, "RUN") if run else text).replace(f"/seed{seed}/", "/seed*/") for key, text in texts.items()}


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from _leaves(entry, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
