"""What a run logged while it trained: its CSV files as one curve a figure."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cis_seg.errors import DataError

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


#: step -> value, in the order of the steps
Curve = dict[int, float]

LOGS = "csv/version_*/metrics.csv"
STEP, IGNORED = "step", ("step", "epoch")


def read_curves(run: Path) -> dict[str, Curve]:
    """Every logged figure of a run by its name (``train/loss_box``, ``val/segm_AP`` ...); empty without a CSV log.

    A resumed run has a log for each start; where two speak of one step the later start's value counts.

    Raises:
        DataError: a log without a column of steps, or with a value that is no number.
    """
    curves: dict[str, Curve] = {}
    for path in sorted(run.glob(LOGS), key=lambda path: (len(path.parent.name), path.parent.name)):  # version_2 before version_10
        with path.open(newline="", encoding="utf-8") as file:
            for line, row in enumerate(csv.DictReader(file), start=2):
                _add(curves, row, where=f"{path}, line {line}")
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}


def _add(curves: dict[str, Curve], row: dict[str, str], where: str) -> None:
    """One line of a log: most of its cells are empty, because every figure has its own rhythm."""
    try:
        step = int(float(row[STEP]))
        values = {name: float(text) for name, text in row.items() if name not in IGNORED and text}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "a log cannot be read",
            where=where,
            expected="the CSV file as Lightning's CSVLogger writes it, with a column step",
            found=error,
            remedy="move the damaged log away: the page says then that there is none",
        ) from error
    for name, value in values.items():
        if math.isfinite(value):
            curves.setdefault(name, {})[step] = value
