"""What a run with W&B leaves behind, read back from its offline file; and what it does not: processes, connections, noise."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cis_seg.training.metrics import CHARTS, FINAL, PROMISED, PROMISED_WITH_OVERLAP, RAW, RESULTS, STEP, WEIGHTED, summaries
from runs import SMALL, metrics_of, places
from wandb_file import history, records, summary, table

pytestmark = pytest.mark.slow  # test_run_writes_all_its_files is the short form
STEPS = ("schedule.max_steps=4", "schedule.val_every=2", "schedule.save_every=4")
OVERLAP = 2.0


@dataclass(frozen=True)
class Finished:
    """A run that was trained by the command, and what else was seen of it."""

    folder: Path
    stderr: str
    connections: list[bytes]
    survivors: list[str]

    @property
    def file(self) -> Path:
        (path,) = self.folder.glob("wandb/offline-run-*/*.wandb")
        return path

    def of_type(self, kind: str) -> list[Any]:
        return [getattr(record, kind) for record in records(self.file) if record.HasField(kind)]


@contextmanager
def counting_proxy() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a proxy that forwards nothing, and the beginnings of what was asked of it."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(200))

        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked


def processes_with(mark: str) -> list[str]:
    """Command lines of the running processes that inherited an environment with ``mark``; Linux tells."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # another user's, or gone meanwhile
            continue
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Four steps with OverlapLoss, validated twice, logged offline; every request would have met our proxy."""
    root, mark = tmp_path_factory.mktemp("dashboard"), uuid.uuid4().hex
    overrides = [o for o in SMALL if not o.startswith(("hydra.", "logger="))]
    paths = [*places(root), "name=crowd_tiny_finetune_overlap"]
    options = [f"loss.weights.overlap={OVERLAP}", "logger=wandb", "logger.wandb.log_model=true", "logger.wandb.tags=[mine]"]
    command = [sys.executable, "-m", "cis_seg.train", *overrides, *paths, *options, *STEPS]
    with counting_proxy() as (address, connections):
        proxies = {name: address for scheme in ("http", "https", "all") for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper())}
        kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_") and key.lower() != "no_proxy"}
        done = subprocess.run(command, cwd=root, env={**kept, **proxies, "CIS_SEG_MARK": mark}, capture_output=True, text=True, timeout=600)
        survivors = processes_with(mark)
    assert done.returncode == 0, done.stderr
    return Finished(root / "runs" / "crowd_tiny_finetune_overlap" / "seed0", done.stderr, connections, survivors)


def test_all_documented_keys_are_logged(finished: Finished) -> None:
    logged = {key for row in history(finished.file) for key in row}
    tables = {f"{name}.path" for name in (*(f"{chart}_table" for chart in CHARTS.values()), RESULTS)}
    promised = {*PROMISED, *PROMISED_WITH_OVERLAP} - {name.removesuffix(".path") for name in tables} | tables
    unmeasured = promised - logged
    assert unmeasured <= {f"val/{key.replace('/', '_')}" for key, value in metrics_of(finished.folder).items() if value is None}
    assert not unmeasured & {"val/segm_AP", "val/segm_AP_crowd_mid", "val/floor_box_AP50", "val/bbox_APm"}
    assert {"overlays/0.all_masks", "overlays/0.all_boxes"} <= logged


def test_curves_have_the_step_as_their_axis_and_a_summary(finished: Finished) -> None:
    defined = {metric.name: metric for metric in finished.of_type("metric") if metric.name}
    for name, kept in summaries(("cls", "overlap")).items():
        assert defined[name].step_metric == STEP
        assert getattr(defined[name].summary, kept), f"{name} keeps no {kept}"
    kept_values = summary(finished.file)
    curve = [row["train/loss"] for row in history(finished.file) if "train/loss" in row]
    assert kept_values["train/loss"] == {"min": pytest.approx(min(curve))}
    boxes = [row["val/bbox_AP50"] for row in history(finished.file) if "val/bbox_AP50" in row]
    assert kept_values["val/bbox_AP50"] == {"max": pytest.approx(max(boxes))}
    assert len(boxes) == 2


def test_final_scores_are_those_of_the_metrics_file(finished: Finished) -> None:
    metrics, kept = metrics_of(finished.folder), summary(finished.file)
    for name in FINAL:
        key = name.removeprefix("final/").replace("_", "/", 1)
        assert kept.get(name) == (None if metrics[key] is None else pytest.approx(metrics[key])), name


def test_weighted_terms_add_up_to_the_loss(finished: Finished) -> None:
    rows = history(finished.file)
    by_step: dict[int, dict[str, float]] = {}
    for row in rows:
        by_step.setdefault(row.get(STEP, -1), {}).update(row)
    steps = [row for row in by_step.values() if "train/loss" in row]
    assert len(steps) == 4
    for row in steps:
        assert sum(value for name, value in row.items() if name.startswith(WEIGHTED)) == pytest.approx(row["train/loss"], rel=1e-4)
        assert row[f"{WEIGHTED}overlap"] == pytest.approx(OVERLAP * row[f"{RAW}overlap"])
        assert row["speed/images_per_s"] > 0
        assert 0.1 < row["memory/peak_rss_gb"] < 100
    rates = [row["train/lr"] for row in steps]
    assert rates[0] < rates[1] < rates[2] == rates[3]  # two steps of warm-up


def test_precision_over_recall_has_ap50_as_its_mean(finished: Finished) -> None:
    metrics = metrics_of(finished.folder)
    for kind, chart in CHARTS.items():
        columns, data = (table(finished.file, f"{chart}_table")[key] for key in ("columns", "data"))
        assert columns == ["step", "lineKey", "lineVal"]
        for threshold in (50, 75):
            line = np.array([(recall, value) for recall, name, value in data if name == f"IoU {threshold} %"])
            assert line[:, 0] == pytest.approx(np.linspace(0, 1, 101))
            assert 100 * line[:, 1].mean() == pytest.approx(metrics[f"{kind}/AP{threshold}"])


def test_results_table_has_one_row_and_picture_per_image(finished: Finished) -> None:
    content = table(finished.file, RESULTS)
    assert content["columns"][0] == "image id"
    assert [row[0] for row in content["data"]] == [0, 1, 2]
    people = sum(row[1] for row in content["data"])
    assert people == metrics_of(finished.folder)["num_annotations"]
    pictures = [artifact for artifact in finished.of_type("artifact") if artifact.name.endswith(f"-{RESULTS}")]
    files = {entry.path: Path(entry.local_path) for entry in pictures[-1].manifest.contents}
    assert sum(name.endswith(".jpg") for name in files) == 3
    assert all(path.is_file() and finished.folder in path.parents for path in files.values()), "wandb sync finds them"


def test_run_has_its_wandb_group(finished: Finished) -> None:
    (run,) = finished.of_type("run")
    assert (run.run_group, run.job_type, run.display_name) == ("crowd_tiny", "overlap", "crowd_tiny_finetune_overlap-seed0")
    assert set(run.tags) == {"overlap", "r10w16_fpn", "crowd_easy", "lambda 2", "mine"}


def test_the_resolved_config_is_recorded(finished: Finished) -> None:
    recorded: dict[str, Any] = {}
    for config in finished.of_type("config"):
        recorded |= {item.key: yaml.safe_load(item.value_json) for item in config.update if item.key}
    written = yaml.safe_load((finished.folder / "config.yaml").read_text())
    assert {key: recorded.get(key) for key in ("loss", "optim", "seed", "paths")} == {
        key: written[key] for key in ("loss", "optim", "seed", "paths")
    }


def test_checkpoints_are_stored_if_requested(finished: Finished) -> None:
    (kept,) = [artifact for artifact in finished.of_type("artifact") if artifact.type == "model"]
    assert {entry.path for entry in kept.manifest.contents} == {"best.ckpt", "last.ckpt"}
    sizes = {entry.path: entry.size for entry in kept.manifest.contents}
    assert sizes["last.ckpt"] == (finished.folder / "checkpoints" / "last.ckpt").stat().st_size, "the file as it is after the last step"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc for processes")
def test_no_process_survives(finished: Finished) -> None:
    assert finished.of_type("exit")[0].exit_code == 0, "there was a W&B process"
    assert finished.survivors == []


def test_no_connection_is_attempted(finished: Finished) -> None:
    assert finished.connections == []


def test_wandb_prints_one_line(finished: Finished) -> None:
    lines = [line for line in finished.stderr.splitlines() if "wandb" in line.lower() or "w&b" in line.lower()]
    assert len(lines) == 1, lines
    assert f"wandb sync {finished.file.parent}" in lines[0]


WITHOUT = """
import sys
from pathlib import Path
from runs import small_run
run = small_run(Path(sys.argv[1]), "name=plain", *sys.argv[2:])
print(sorted({name.split(".")[0] for name in sys.modules} & {"wandb"}))
"""


def test_wandb_is_not_imported_if_disabled(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", WITHOUT, str(tmp_path), "logger=tensorboard", *STEPS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    run = tmp_path / "runs" / "plain" / "seed0"
    header = (run / "csv" / "version_0" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/lr", "speed/images_per_s", "memory/peak_rss_gb", "train_weighted/loss_pairwise", "val/segm_AP"} <= set(header)
    assert list((run / "tensorboard").rglob("events.out.*"))
