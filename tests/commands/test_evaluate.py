"""Scoring: a checkpoint scores what its run reported, and a results file what pycocotools says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cis_seg.coco.submission import pack
from cis_seg.commands import evaluate
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.inference.box_masks import BoxMasker
from cis_seg.model.condinst import CondInst
from coco_scores import jittered, pycocotools_scores
from runs import SMALL, composed, metrics_of, places, small_run
from small_coco import coco_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short finished run."""
    root = tmp_path_factory.mktemp("scored")
    return small_run(root, "name=scored", "schedule.max_steps=3", "schedule.val_every=3", "schedule.save_every=3")


def data_of(run: Path) -> list[str]:
    return [places(run.parents[2])[1], *(o for o in SMALL if o.startswith("data."))]


def test_a_checkpoint_scores_what_its_run_reported(run: Path, tmp_path: Path) -> None:
    overrides = [f"checkpoint={run}/checkpoints/last.ckpt", f"output={tmp_path}", "score_threshold=0.0001", *data_of(run)]
    evaluate.evaluate(composed(*overrides, name="evaluate"))
    metrics, reported = metrics_of(tmp_path), metrics_of(run)
    assert {k: metrics[k] for k in ("num_images", "floor/ellipse_AP50")} == {k: reported[k] for k in ("num_images", "floor/ellipse_AP50")}
    entries = json.loads((tmp_path / "predictions.json").read_text())
    assert entries
    assert set(entries[0]) == {"image_id", "category_id", "bbox", "score", "segmentation"}


def test_the_default_threshold_gives_the_same_numbers(run: Path, tmp_path: Path) -> None:
    evaluate.evaluate(composed(f"checkpoint={run}/checkpoints/last.ckpt", f"output={tmp_path}", *data_of(run), name="evaluate"))
    reported = metrics_of(run)
    reported.pop("step")
    assert metrics_of(tmp_path) == reported


def test_masks_for_the_ground_truth_boxes_are_scored_on_request(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scored: dict[str, float] = {}
    for option in ("false", "true"):
        options = [f"checkpoint={run}/checkpoints/last.ckpt", f"output={tmp_path}/{option}", *data_of(run), f"eval.cut_to_box={option}"]
        evaluate.evaluate(composed(*options, "given_boxes=true", "score_threshold=1", name="evaluate"))
        metrics = metrics_of(tmp_path / option)
        scored[option] = metrics["given_boxes/mean_iou"]
        assert 0 < metrics["given_boxes/mean_iou"] < 100
        assert 0 <= metrics["given_boxes/iou75"] <= metrics["given_boxes/iou50"] <= 100
        assert any(metrics[f"given_boxes/mean_iou/crowd_{name}"] for name in ("none", "low", "mid", "high"))
    assert scored["true"] > scored["false"], "an untrained network's masks leave their boxes"
    results = f"predictions={tmp_path}/true/predictions.json"
    evaluate.evaluate(composed(results, f"output={tmp_path}/again", *data_of(run), "given_boxes=true", name="evaluate"))
    assert "given_boxes=true has no effect" in caplog.text


def test_scales_reach_the_masks_of_given_boxes_alone(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[list[float]] = []

    class Recorder(BoxMasker):
        def __init__(self, *args: Any) -> None:
            used.append(args[-1])
            super().__init__(*args)

    monkeypatch.setattr(evaluate, "BoxMasker", Recorder)
    options = [f"checkpoint={run}/checkpoints/last.ckpt", f"output={tmp_path}", *data_of(run)]
    for given in (["given_boxes=true"], ["given_boxes=true", "scales=[1,2]"], ["scales=[2]"]):
        assert "has no effect" not in caplog.text
        evaluate.evaluate(composed(*options, *given, name="evaluate"))
    assert used == [[1.0], [1.0, 2.0]]
    assert "scales=[2.0] has no effect without given_boxes=true" in caplog.text


def test_presets(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The reference is what the default gives, to the bit; best is its options one by one, and means nothing for a results file."""
    given = {
        "default": [],
        "reference": ["inference=reference"],
        "best": ["inference=best"],
        "options": ["eval.refine=true", "eval.flip=true", "eval.rescore=true"],
        "part": ["inference=best", "eval.flip=false"],
    }
    written: dict[str, bytes] = {}
    for name, options in given.items():
        overrides = [f"checkpoint={run}/checkpoints/last.ckpt", f"output={tmp_path}/{name}", "score_threshold=0.0001", *data_of(run)]
        evaluate.evaluate(composed(*overrides, *options, name="evaluate"))
        written[name] = (tmp_path / name / "predictions.json").read_bytes()
    assert written["default"] == written["reference"]
    assert written["best"] == written["options"]
    assert len({written[name] for name in ("reference", "best", "part")}) == 3
    results = f"predictions={tmp_path}/best/predictions.json"
    evaluate.evaluate(composed(results, f"output={tmp_path}/again", *data_of(run), "inference=best", name="evaluate"))
    assert "eval.refine, eval.flip, eval.rescore: no effect on a results file" in caplog.text
    assert metrics_of(tmp_path / "again")["segm/AP"] == pytest.approx(metrics_of(tmp_path / "best")["segm/AP"])


def test_unusual_image_size_is_reported(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own, far = 96, 200
    for size in (own, far):
        options = [f"checkpoint={run}/checkpoints/last.ckpt", f"output={tmp_path}/{size}", *data_of(run), f"data.test_size={size}"]
        evaluate.evaluate(composed(*options, name="evaluate"))
        assert (f"data.test_size={own} is its own size" in caplog.text) == (size == far)


def test_scoring_its_predictions_file_gives_the_same_metrics(run: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    checkpoint = f"checkpoint={run}/checkpoints/last.ckpt"
    evaluate.evaluate(composed(checkpoint, f"output={first}", "score_threshold=0.0001", *data_of(run), name="evaluate"))
    again = [f"predictions={first}/predictions.json", f"output={second}", *data_of(run)]
    evaluate.evaluate(composed(*again, name="evaluate"))
    assert metrics_of(first) == metrics_of(second)


def test_a_results_file_scores_what_pycocotools_says_for_every_category(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = shared_data / "coco_mini" / "annotations" / "instances_val2017.json"
    names = {category["id"]: category["name"] for category in json.loads(annotations.read_text())["categories"]}
    results = tmp_path / "results.json"
    results.write_text(json.dumps(jittered(annotations)))
    overrides = ["data=coco", f"data.root={shared_data}/coco_mini", f"predictions={results}", f"output={tmp_path}/out"]
    evaluate.evaluate(composed(*overrides, name="evaluate"))
    metrics, printed = metrics_of(tmp_path / "out"), capsys.readouterr().out.replace("│", "")
    chosen = [number for number, name in names.items() if name in ("person", "dining table", "zebra")]
    for kind in ("segm", "bbox"):
        found = {key for key in metrics if key.startswith(f"{kind}/AP/") and "/crowd_" not in key}
        assert found == {f"{kind}/AP/{name}" for name in names.values()}
        for number in chosen:
            alone = pycocotools_scores(annotations, results, kind, [names[number]])
            assert metrics[f"{kind}/AP/{names[number]}"] == alone["AP"]
        expected = pycocotools_scores(annotations, results, kind)
        assert {key: metrics[f"{kind}/{key}"] for key in expected} == expected
    assert 5 < metrics["segm/AP"] < 95
    for number in chosen:
        cells = ("-" if value is None else f"{value:.2f}" for value in (metrics[f"{kind}/AP/{names[number]}"] for kind in ("segm", "bbox")))
        assert " ".join([names[number], *cells]) in " ".join(printed.split())


def test_a_list_of_images_without_annotations_is_predicted(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As COCO's test-dev: results with the list's own ids, ready to be packed."""
    content = {"images": [{"id": i, "file_name": f"{i}.jpg", "width": 90, "height": 60} for i in (7, 581_929)], "licenses": [], "info": {}}
    for image in content["images"]:
        Image.new("RGB", (90, 60), "gray").save(tmp_path / str(image["file_name"]))
    categories = [{"id": 2, "name": "dog"}, {"id": 1, "name": "person"}]
    (tmp_path / "image_info.json").write_text(json.dumps({**content, "categories": categories}))
    data = ["data=coco", f"data.root={tmp_path}", "data.annotations=image_info.json", "data.images=.", "data.test_size=96"]
    checkpoint = f"checkpoint={run}/checkpoints/last.ckpt"
    few = ["score_threshold=0", "eval.max_detections=5", "data.workers=0"]
    evaluate.evaluate(composed(checkpoint, *data, *few, f"output={tmp_path}/out", name="evaluate"))
    assert "has no annotations, nothing was scored" in capsys.readouterr().out
    metrics = metrics_of(tmp_path / "out")
    assert (metrics["segm/AP"], metrics["bbox/AP"], metrics["num_images"], metrics["num_annotations"]) == (None, None, 2, 0)
    packed = pack(tmp_path / "out" / "predictions.json", tmp_path / "image_info.json", name="short", output=tmp_path)
    assert (packed.num_images, packed.num_known_images, packed.num_categories) == (2, 2, 1)


@pytest.mark.parametrize("size", [480, 680])
def test_cis_at_both_image_sizes_of_the_paper(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """``data=cis`` resizes the shorter side to 480 unless told otherwise; boxes and masks come back at the size of the file."""
    Image.new("RGB", (90, 60), "gray").save(tmp_path / "a,b.jpg")
    person = {"id": 0, "image_id": 0, "category_id": 1, "bbox": [10, 5, 30, 50], "area": 1500, "iscrowd": 0}
    content = {
        "images": [{"id": 0, "file_name": "a,b.jpg", "width": 90, "height": 60}],
        "annotations": [person | {"segmentation": [[10, 5, 40, 5, 40, 55, 10, 55]]}],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "CIS.json").write_text(json.dumps(content))
    seen: list[tuple[int, int]] = []
    forward = CondInst.normalize
    monkeypatch.setattr(CondInst, "normalize", lambda self, images, sizes: (seen.extend(sizes), forward(self, images, sizes))[1])
    overrides = ["data=cis", f"data.root={tmp_path}", f"data.val_images={tmp_path}", *([f"data.test_size={size}"] if size != 480 else [])]
    checkpoint = f"checkpoint={run}/checkpoints/last.ckpt"
    few = ["score_threshold=0", "eval.max_detections=5", "data.workers=0"]
    evaluate.evaluate(composed(checkpoint, *overrides, *few, f"output={tmp_path}/out", name="evaluate"))
    assert seen == [(size, size * 3 // 2)]
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert entries
    assert {tuple(entry["segmentation"]["size"]) for entry in entries} == {(60, 90)}
    assert metrics_of(tmp_path / "out")["num_annotations"] == 1


def test_checkpoint_and_predictions_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="checkpoint=PATH or predictions"):
        evaluate.evaluate(composed(f"output={tmp_path}", name="evaluate"))


def test_a_results_file_needs_an_output(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="output=DIR"):
        evaluate.evaluate(composed(f"predictions={tmp_path}/r.json", "data=coco", f"data.root={tmp_path}", name="evaluate"))


def test_a_results_file_needs_no_pixels(tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco")
    shutil.rmtree(root / "val2017")
    (tmp_path / "results.json").write_text('[{"image_id": 0, "category_id": 1, "bbox": [20, 10, 40, 60], "score": 0.9}]')
    overrides = ["data=coco", f"data.root={root}", f"predictions={tmp_path}/results.json", f"output={tmp_path}/out"]
    evaluate.evaluate(composed(*overrides, name="evaluate"))
    assert metrics_of(tmp_path / "out")["num_annotations"] == 2


@pytest.mark.parametrize("kind", ["full", "visible"])
@pytest.mark.parametrize("form", ["COCO", "odgt"])
def test_crowdhuman_scores_what_crowddet_says(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, kind: str
) -> None:
    path = golden / "crowdhuman_metrics.odgt"
    content = json.loads(path.with_suffix(".json").read_text())
    ids = [json.loads(line)["ID"] for line in path.read_text().splitlines()]
    found = [(ids.index(entry["image"]), {"bbox": entry["bbox"], "score": entry["score"]}) for entry in content["detections"]]
    lines = [{"ID": name, "dtboxes": [{"box": e["bbox"], **e} for i, e in found if i == number]} for number, name in enumerate(ids)]
    coco = [{"image_id": number, "category_id": 1, **entry} for number, entry in found]
    results = tmp_path / "results.json"
    results.write_text(json.dumps(coco) if form == "COCO" else "\n".join(map(json.dumps, lines)))
    options = ["data=crowdhuman", f"data.annotations={path}", f"data.boxes={kind}", f"predictions={results}", f"output={tmp_path}"]
    evaluate.evaluate(composed(*options, name="evaluate"))
    metrics = {key: value for key, value in metrics_of(tmp_path).items() if key.startswith("crowdhuman/")}
    theirs = content["metrics"][kind]
    assert metrics == {f"crowdhuman/{name}/{kind}": pytest.approx(100 * theirs[name], abs=1e-8) for name in ("AP", "MR", "JI")}
    assert f"CrowdHuman JI, {kind} boxes" in capsys.readouterr().out


def test_odgt_results_belong_to_crowdhuman(tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco")
    (tmp_path / "results.odgt").write_text('{"ID": "0", "dtboxes": []}')
    overrides = ["data=coco", f"data.root={root}", f"predictions={tmp_path}/results.odgt", f"output={tmp_path}/out"]
    with pytest.raises(ConfigError, match=r"data=crowdhuman"):
        evaluate.evaluate(composed(*overrides, name="evaluate"))


def test_a_checkpoint_is_scored_on_the_boxes_that_it_predicts(tmp_path: Path) -> None:
    """A run whose scored set is an odgt file, and its checkpoint on boxes of the same and of another kind."""
    steps = ("schedule.max_steps=2", "schedule.val_every=2", "schedule.save_every=2")
    run = small_run(tmp_path, "name=boxes", "data.val_annotations=annotation_val.odgt", "data.boxes=full", *steps)
    reported = metrics_of(run)
    names = {f"crowdhuman/{name}/full" for name in ("AP", "MR", "JI")}
    assert names <= reported.keys()
    assert (reported["segm/AP"], reported["num_images"]) == (None, 3)
    assert "val/crowdhuman_MR_full" in next(run.rglob("metrics.csv")).read_text()
    data = [*data_of(run), "data.annotations=annotation_val.odgt", f"checkpoint={run}/checkpoints/last.ckpt", f"output={tmp_path}/out"]
    evaluate.evaluate(composed(*data, "data.boxes=full", name="evaluate"))
    assert {name: metrics_of(tmp_path / "out")[name] for name in names} == {name: reported[name] for name in names}
    with pytest.raises(CheckpointError, match=r"predicts full boxes, and the ground truth has visible ones(.|\n)*data\.boxes=full"):
        evaluate.evaluate(composed(*data, name="evaluate"))
