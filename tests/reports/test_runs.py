"""Reading finished runs at every folder level; unfinished and unknown folders are skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from cis_seg.commands import evaluate
from cis_seg.errors import DataError
from cis_seg.reports.runs import find_runs
from finished_runs import write_evaluation, write_metrics, write_run
from runs import SMALL, composed, metrics_of, places, small_run


def test_a_real_run_and_its_evaluation(tmp_path: Path) -> None:
    steps = ["schedule.max_steps=2", "schedule.val_every=2", "schedule.save_every=2"]
    folder = small_run(tmp_path, "name=small", "seed=7", "loss.weights.overlap=0.5", *steps)
    scored = folder / "evaluate" / "at_64"
    data = [places(tmp_path)[1], *(o for o in SMALL if o.startswith("data."))]
    overrides = [f"checkpoint={folder}/checkpoints/best.ckpt", f"output={scored}", "test_size=64", "score_threshold=0.1", *data]
    evaluate.evaluate(composed(*overrides, name="evaluate"))

    (run, evaluation), skipped = find_runs([folder, scored])
    assert skipped == []
    for found in (run, evaluation):
        assert (found.name, found.seed, found.weight, found.reduction, found.steps) == ("small", 7, 0.5, "pairs", 2)
        assert found.metrics["AP"] == metrics_of(found.path)["segm/AP"]
        assert (found.protocol.num_images, found.protocol.area) == (3, "published")
        assert found.protocol.baselines[0] == pytest.approx(metrics_of(found.path)["floor/box_AP50"])
        assert found.protocol.scored_set == "the held-out images of crowd_easy"
    assert (run.protocol.test_size, run.protocol.score_threshold, run.protocol.checkpoint) == (96, 0.05, "last.ckpt")
    assert (evaluation.protocol.test_size, evaluation.protocol.score_threshold) == (64, 0.1)
    assert evaluation.protocol.checkpoint == "best.ckpt"


def test_metrics_are_in_percent(tmp_path: Path) -> None:
    (run,), _ = find_runs([write_run(tmp_path, "x", 0, ap=12.5, degree=0.125)])
    assert run.metrics["AP"] == 12.5
    assert run.metrics["AP50"] == 25.0
    assert run.metrics["overlap degree"] == 12.5
    assert run.metrics["mask / box"] == 0.5
    assert run.protocol.baselines == (10.25, 23.5, 0.4375)


def test_missing_metrics_are_none(tmp_path: Path) -> None:
    (run,), _ = find_runs([write_run(tmp_path, "x", 0, ap=None, degree=None)])
    assert run.metrics["AP"] is run.metrics["overlap degree"] is None


@pytest.mark.parametrize("level", ["", "crowd_tiny_finetune", "crowd_tiny_finetune/seed1"])
def test_runs_are_found_at_any_folder_level(tmp_path: Path, level: str) -> None:
    write_run(tmp_path, "crowd_tiny_pretrain", 0)
    for seed in (0, 1):
        write_evaluation(write_run(tmp_path, "crowd_tiny_finetune", seed), "cis", ap=1.0)
    runs, _ = find_runs([tmp_path / level])
    expected = {"": 3, "crowd_tiny_finetune": 2, "crowd_tiny_finetune/seed1": 1}
    assert len(runs) == expected[level], "evaluations are read only if given explicitly"


def test_duplicate_run_folder_counts_once(tmp_path: Path) -> None:
    run = write_run(tmp_path, "x", 0)
    assert len(find_runs([run, run.parent, tmp_path])[0]) == 1


def test_base_and_family(tmp_path: Path) -> None:
    write_run(tmp_path, "crowd_tiny_pretrain", 0)
    write_run(tmp_path, "crowd_tiny_finetune", 0)
    write_run(tmp_path, "crowd_tiny_ov0.5", 0, weight=0.5)
    write_run(tmp_path, "from_published", 0, init_from="weights/BoxInst_R50.ckpt")
    found = {run.name: (run.base, run.family) for run in find_runs([tmp_path])[0]}
    assert found == {
        "crowd_tiny_pretrain": (None, "crowd_tiny"),
        "crowd_tiny_finetune": ("crowd_tiny_pretrain", "crowd_tiny"),
        "crowd_tiny_ov0.5": (None, "crowd_tiny"),
        "from_published": ("BoxInst_R50", "BoxInst_R50"),
    }


def test_lambda_zero_has_no_reduction(tmp_path: Path) -> None:
    write_run(tmp_path, "x", 0, weight=0.0, reduction="masks")
    write_run(tmp_path, "y", 0, weight=1.0, reduction="masks")
    assert [run.reduction for run in find_runs([tmp_path])[0]] == ["", "masks"]


def test_unfinished_runs_are_skipped_with_a_reason(tmp_path: Path) -> None:
    write_run(tmp_path, "a", 0)
    write_run(tmp_path, "a", 1, finished=False)
    continued = write_run(tmp_path, "a", 2, steps=900)
    write_metrics(continued, ap=1.0, step=500)
    bare = tmp_path / "a" / "seed3"
    bare.mkdir()
    write_metrics(bare, ap=1.0)
    others = write_evaluation(write_run(tmp_path, "b", 0), "theirs", ap=1.0, checkpoint=None, predictions="theirs.json")
    runs, skipped = find_runs([tmp_path / "a"])
    assert [run.seed for run in runs] == [0]
    assert [sentence.split(" skipped: ")[1] for sentence in skipped] == [
        "unfinished, no metrics.json",
        "unfinished, metrics.json is of step 500 of 900",
        "neither config.yaml nor evaluate.yaml found, so the protocol is unknown",
    ]
    assert str(tmp_path / "a" / "seed1") in skipped[0]
    with pytest.raises(DataError, match="belongs to no run"):
        find_runs([others])


def test_an_evaluation_outside_its_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", "x", 4)
    inside = write_evaluation(run, "cis", ap=20.0, data={**_cis(), "annotations": "other/CIS_v2.json"}, test_size=680, max_size=2000)
    outside = inside.rename(tmp_path / "elsewhere")
    (found,), _ = find_runs([outside])
    assert (found.name, found.seed, found.metrics["AP"]) == ("x", 4, 20.0)
    assert (found.protocol.scored_set, found.protocol.test_size, found.protocol.max_size) == ("CIS_v2.json", 680, 2000)
    (run / "config.yaml").unlink()
    with pytest.raises(DataError, match="the run of an evaluation does not exist"):
        find_runs([outside])


def _cis() -> dict[str, object]:
    return {"root": "data/cis", "val_annotations": "CIS.json", "test_size": 480, "test_max_size": 1333}


def test_a_path_without_any_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no finished run found(.|\n)*no such path"):
        find_runs([tmp_path / "nothing"])
    with pytest.raises(DataError, match=r"no finished run found(.|\n)*found: none"):
        find_runs([tmp_path])
    write_run(tmp_path, "x", 0, finished=False)
    with pytest.raises(DataError, match=r"seed0: unfinished"):
        find_runs([tmp_path])


def test_corrupt_files(tmp_path: Path) -> None:
    run = write_run(tmp_path, "x", 0)
    (run / "config.yaml").write_text("name: [x")
    with pytest.raises(DataError, match="a config cannot be read"):
        find_runs([run])
    (run / "config.yaml").write_text("- x\n")
    with pytest.raises(DataError, match="not a mapping"):
        find_runs([run])
    (run / "config.yaml").write_text("name: x\ntrainer: {max_steps: 500}\n")
    with pytest.raises(DataError, match=r"loss\.weights\.overlap is missing"):
        find_runs([run])
    (run / "metrics.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        find_runs([run])
