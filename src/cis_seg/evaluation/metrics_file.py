"""metrics.json: the scores of a run or of an evaluation, in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from cis_seg.runtime.atomic_files import retry_while_disk_full, write_atomically

METRICS = "metrics.json"

#: the metric that a sweep maximises
OBJECTIVE = "segm/AP"


def write_metrics(folder: Path, metrics: Mapping[str, float | None]) -> None:
    """Write ``folder/metrics.json`` atomically, once the disk has space: scores in percent, None for a score that is undefined."""
    path, content = folder / METRICS, f"{json.dumps(dict(metrics), indent=2)}\n".encode()
    retry_while_disk_full(lambda: write_atomically(path, content), path, len(content))


def read_metrics(folder: Path) -> dict[str, float | None]:
    """Return the content of ``folder/metrics.json``, which this package wrote."""
    metrics: dict[str, float | None] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    return metrics


def reported_step(run: Path) -> int:
    """Return the step of the scores in ``run/metrics.json``; 0 without the file."""
    return int(read_metrics(run).get("step") or 0) if (run / METRICS).is_file() else 0
