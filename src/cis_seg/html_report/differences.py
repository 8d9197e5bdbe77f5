"""What the configs of several experiments have in common, and where they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

ABSENT = "(absent)"  # a key that the version which wrote a config did not know
SEED = "seed*"

#: experiment -> the plain configs of its seeds
Configs = Mapping[str, Sequence[dict[str, Any]]]


def differences(configs: Configs) -> dict[str, dict[str, str]]:
    """Key with dots -> experiment -> value, for every key whose value is not the same in all experiments.

    A run's own folder and the number of its seed inside a path are not told apart: every run has another.
    """
    told = {name: [flat(config) for config in seeds] for name, seeds in configs.items()}
    keys = dict.fromkeys(key for seeds in told.values() for config in seeds for key in config)
    table = {key: {name: _values(seeds, key) for name, seeds in told.items()} for key in keys if key not in ("name", "seed")}
    return {key: row for key, row in table.items() if len(set(row.values())) > 1}


def flat(config: dict[str, Any]) -> dict[str, str]:
    """``{"a": {"b": 1}}`` as ``{"a.b": "1"}``; lists stay in one piece."""
    run, seed = str((config.get("paths") or {}).get("run") or ""), str(config.get("seed"))
    flattened: dict[str, str] = {}
    queue: list[tuple[str, Any]] = [("", config)]
    while queue:
        prefix, value = queue.pop()
        if isinstance(value, dict) and value:
            queue += [(f"{prefix}.{key}" if prefix else str(key), entry) for key, entry in reversed(value.items())]
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            text = text.replace(run, "RUN") if run else text
            flattened[prefix] = text.replace(f"/seed{seed}/", f"/{SEED}/")
    return flattened


def _values(seeds: Sequence[dict[str, str]], key: str) -> str:
    """The value of an experiment; where its seeds differ, each once."""
    return ", ".join(dict.fromkeys(config.get(key, ABSENT) for config in seeds))
