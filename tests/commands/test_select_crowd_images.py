"""Images chosen, drafted, outlined, merged, checked and scored: through the commands, on a generated crowd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from cis_seg.annotation.job import read_job
from cis_seg.coco.rle import from_segmentation
from cis_seg.commands import check_dataset, evaluate, select_crowd_images
from cis_seg.commands.annotations import merge_annotations
from cis_seg.config.commands import start
from cis_seg.config.plain import to_dataclass
from runs import SMALL, composed, exit_code, metrics_of, places, small_run

DATA = [o for o in SMALL if o.startswith("data.")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A crowd of 8 and 3 images, and a checkpoint of five steps on it."""
    root = tmp_path_factory.mktemp("annotated")
    assert metrics_of(small_run(root, "debug=fast", "data.num_train=8", "data.num_val=3", "name=short"))["step"] == 5
    return root


def checkpoint(root: Path) -> Path:
    return next(root.glob("runs/**/last.ckpt"))


def selected(monkeypatch: pytest.MonkeyPatch, root: Path, output: Path, *overrides: str) -> int:
    """The exit code of the command."""
    given = [*DATA, "data=crowd", places(root)[1], f"output={output}", "min_side=240", "device=cpu"]
    return exit_code(monkeypatch, "select_crowd_images", *given, *overrides)


def crowd_truth(root: Path) -> dict[str, list[dict[str, Any]]]:
    """The true masks by file name."""
    content = json.loads(next(root.parent.glob("crowds/crowd_easy/masks_train.json")).read_text())
    return {
        image["file_name"]: [annotation for annotation in content["annotations"] if annotation["image_id"] == image["id"]]
        for image in content["images"]
    }


def annotated(job: Path, root: Path) -> dict[str, Any]:
    """The job as annotators would export it who see the truth."""
    content, truth = json.loads(job.read_text()), crowd_truth(root)
    masks = [(image["id"], entry) for image in content["images"] for entry in truth[image["file_name"]]]
    annotations = [{**entry, "id": number, "image_id": image_id} for number, (image_id, entry) in enumerate(masks)]
    return {**content, "annotations": annotations}


def test_from_selection_to_evaluation(monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path) -> None:
    output = tmp_path / "job"
    assert selected(monkeypatch, root, output, "count=4", "seed=1", f"checkpoint={checkpoint(root)}", "photos=copy") == 0
    job, truth = read_job(output / "job.json"), crowd_truth(root)
    names = [image["file_name"] for image in job.images.values()]
    assert (output / "images.txt").read_text().splitlines() == names
    assert sorted(path.name for path in (output / "images").iterdir()) == sorted(names)
    assert len(names) == 4
    assert (output / "draft_000.png").is_file()
    assert {len(people) for people in job.people.values()} == {len(truth[name]) for name in names}
    drafted = [person for people in job.people.values() for person in people.values() if person["segmentation"] is not None]
    assert drafted
    assert all(0 <= person["confidence"] <= 1 for person in drafted)

    (tmp_path / "export.json").write_text(json.dumps(annotated(output / "job.json", root)))
    merged = tmp_path / "test set" / "CIS.json"
    assert merge_annotations([str(output / "job.json"), str(tmp_path / "export.json"), "--output", str(merged)]) == 0
    content = json.loads(merged.read_text())
    people = [annotation for annotation in content["annotations"] if not annotation["iscrowd"]]
    assert [annotation["area"] for annotation in people] == [entry["area"] for name in names for entry in truth[name]]
    assert f"{len(people)} people with masks" in merged.with_suffix(".md").read_text()

    images = next(root.parent.glob("crowds/crowd_easy/Images"))
    data = ["data=cis", f"data.root={merged.parent}", f"data.val_images={images}"]
    check_dataset.check(composed(*data, f"output={tmp_path}/check", "floors=true", name="check"))
    report = json.loads((tmp_path / "check" / "check.json").read_text())["val"]
    assert report["oddity_counts"] == {}
    assert report["floors"]["the truth itself"]["segm/AP"] == pytest.approx(100)
    assert report["statistics"]["area_is_mask_area"] == len(people)

    results = [{key: a[key] for key in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 0.9} for a in people]
    (tmp_path / "results.json").write_text(json.dumps(results[1:]))
    evaluate.evaluate(composed(*data, f"predictions={tmp_path}/results.json", f"output={tmp_path}/scored", name="evaluate"))
    metrics = metrics_of(tmp_path / "scored")
    assert (metrics["num_images"], metrics["num_annotations"]) == (4, len(content["annotations"]))
    assert 100 * (len(people) - 2) / len(people) < metrics["segm/AP"] < 100  # one of them was not found


def test_the_job_is_what_annotation_tools_import(monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path) -> None:
    content = {}
    for form in ("polygons", "rle"):
        assert (
            selected(monkeypatch, root, tmp_path / form, "count=2", f"checkpoint={checkpoint(root)}", f"masks={form}", "photos=link") == 0
        )
        content[form] = json.loads((tmp_path / form / "job.json").read_text())
        coco = COCO(str(tmp_path / form / "job.json"))
        assert sorted(coco.anns) == list(range(1, len(content[form]["annotations"]) + 1))
        assert sorted(coco.imgs) == list(range(1, len(content[form]["images"]) + 1))
        assert content[form]["categories"] == [{"id": 1, "name": "person", "supercategory": "person"}]
        assert all((tmp_path / form / "images" / image["file_name"]).is_symlink() for image in content[form]["images"])
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["rle"]["images"]}
    pairs = list(zip(content["polygons"]["annotations"], content["rle"]["annotations"], strict=True))
    masked = [pair for pair in pairs if not pair[0]["iscrowd"] and pair[1]["segmentation"]]
    assert masked
    for polygons, rle in masked:
        assert all(len(part) >= 6 for part in polygons["segmentation"])
        codes = [from_segmentation(annotation["segmentation"], sizes[annotation["image_id"]]) for annotation in (polygons, rle)]
        assert coco_mask.area(codes[1]) == rle["area"]
        assert {key: polygons[key] for key in polygons.keys() - {"segmentation"}} == {
            key: rle[key] for key in rle.keys() - {"segmentation"}
        }
    regions = [annotation for annotation in content["polygons"]["annotations"] if annotation["iscrowd"]]
    assert all(isinstance(region["segmentation"], dict) for region in regions)


def test_every_image_has_its_reason(
    monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert selected(monkeypatch, root, tmp_path / "job", "count=2", "max_people=6", "touching=0.8") == 0
    report = json.loads((tmp_path / "job" / "report.json").read_text())
    assert [image["line"] for image in report["images"]] == list(range(8))
    assert sum(entry["images"] for entry in report["reasons"].values()) == 8
    assert report["reasons"]["taken"]["images"] == 2
    assert all(image["people"] > 6 for image in report["images"] if image["reason"] == "too_many")
    assert all(image["touching"] < 0.8 for image in report["images"] if image["reason"] == "apart")
    printed = capsys.readouterr().out
    assert "8 records" in printed
    assert all(f"{entry['images']:8d}  {entry['meaning']}" in printed for entry in report["reasons"].values())
    job = json.loads((tmp_path / "job" / "job.json").read_text())
    assert {image["file_name"] for image in job["images"]} == {i["file_name"] for i in report["images"] if i["reason"] == "taken"}
    assert all(annotation["segmentation"] == [] for annotation in job["annotations"] if not annotation["iscrowd"])


def test_faulty_records_and_damaged_files_are_in_the_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    boxes = [[10 * i, 10, 60, 200] for i in range(3)]
    people = [{"tag": "person", "vbox": box, "fbox": box, "hbox": box} for box in boxes]
    (tmp_path / "Images").mkdir()
    Image.effect_noise((300, 240), 50).save(tmp_path / "Images" / "a,1.jpg")
    whole = (tmp_path / "Images" / "a,1.jpg").read_bytes()
    (tmp_path / "Images" / "b,1.jpg").write_bytes(whole[: len(whole) // 2])
    lines = [*(json.dumps({"ID": name, "gtboxes": people}) for name in ("a,1", "b,1", "c,1")), "{"]
    (tmp_path / "annotation_val.odgt").write_text("\n".join(lines))
    data = ["data=crowdhuman", f"data.root={tmp_path}", "data.annotations=annotation_val.odgt", "data.max_faulty=1"]
    verdicts = select_crowd_images.select(to_dataclass(composed(*data, f"output={tmp_path}/job", "min_side=200", name="select")))
    assert [(verdict.line, verdict.reason) for verdict in verdicts] == [
        (0, "taken"), (1, "unreadable"), (None, "faulty_record"), (None, "faulty_record"),
    ]  # fmt: skip
    assert "line 4" in verdicts[2].why + verdicts[3].why
    assert "c,1.jpg is missing" in verdicts[2].why + verdicts[3].why


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data=coco", "data.root=FOLDER"], "images can only be chosen from CrowdHuman's records"),
        (["data.boxes=full"], "data.boxes must be visible here, because masks cover only the visible parts of people"),
        (["min_people=9", "max_people=8"], "the range of people is empty"),
        (["min_iou=0"], "min_iou: invalid value"),
        (["photos=move"], "photos: invalid value"),
        (["min_side=5000"], "no image meets the criteria"),
        (["checkpoint=FOLDER/nothing.ckpt"], "there is no checkpoint"),
        (["output=FOLDER/full"], "annotators may be working on it"),
    ],
)
def test_user_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path, overrides: list[str], said: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "job.json").write_text("{}")
    given = [override.replace("FOLDER", str(tmp_path)) for override in overrides]
    if any(override.startswith("data=") for override in given):
        monkeypatch.setattr("sys.argv", ["select_crowd_images", *given, f"output={tmp_path}/job"])
        with pytest.raises(SystemExit, match="2"):
            start("select_crowd_images")
    else:
        assert selected(monkeypatch, root, tmp_path / "job", *given) == 2
    text = capsys.readouterr().err
    assert said in text
    assert "Traceback" not in text
    assert not (tmp_path / "job" / "job.json").exists()
    assert (tmp_path / "full" / "job.json").read_text() == "{}"
