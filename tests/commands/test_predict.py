"""Prediction through the real ``main``, on every kind of input that people have."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from cis_seg.commands import evaluate, predict
from cis_seg.errors import DataError
from cis_seg.inference.inputs import Source
from cis_seg.inference.video import VideoFile, frame_count, read_frames
from cis_seg.inference.writer import output_names
from runs import SMALL, composed, exit_code, metrics_of, small_run

# a network of two steps is sure of nothing: these thresholds let enough of what it says through
UNSURE = ("score_threshold=0.0001", "draw_threshold=0.01", "max_detections=6")
NASTY = "a,b [c] (d)=e~.jpg"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short finished run with its generated crowd."""
    return small_run(tmp_path_factory.mktemp("seen"), "name=seen", "schedule.max_steps=2", "schedule.val_every=2", "schedule.save_every=2")


@pytest.fixture(scope="module")
def photo(run: Path) -> Image.Image:
    """An image of the crowd, 320 x 240."""
    return Image.open(next(run.parents[3].glob("crowds/crowd_easy/Images/*.jpg"))).convert("RGB")


@pytest.fixture(scope="module")
def photos(run: Path, photo: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it comes from cameras, scanners and downloads."""
    folder = tmp_path_factory.mktemp("my photos, [2026]")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(folder / "plain.jpg")
    photo.save(folder / "plain.png")
    photo.save(folder / NASTY)
    photo.save(folder / "turned.jpg", exif=exif)
    photo.convert("L").save(folder / "grey.png")
    photo.convert("RGBA").save(folder / "alpha.png")
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) << 8).save(folder / "deep.png")
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    (folder / "broken.jpg").write_bytes((folder / "plain.jpg").read_bytes()[:700])
    (folder / "text.jpg").write_text("this is no image")
    (folder / "notes.txt").write_text("neither is this")
    return folder


def predicted(monkeypatch: pytest.MonkeyPatch, run: Path, *overrides: str) -> int:
    """The exit code of ``python -m cis_seg.predict`` on the run's checkpoint."""
    return exit_code(monkeypatch, "predict", f"checkpoint={run}/checkpoints/last.ckpt", *UNSURE, *overrides)


def entries_of(output: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((output / "predictions.json").read_text())
    return entries


def by_file(output: Path) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries_of(output):
        groups[entry["file_name"]].append(entry)
    return groups


def test_folder_of_images_and_videos(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: Path, photos: Path, tmp_path: Path
) -> None:
    assert predicted(monkeypatch, run, f"input={photos}", f"output={tmp_path}/out, [1]", "masks=true") == predict.EXIT_SOME_UNREADABLE
    output, text = tmp_path / "out, [1]", capsys.readouterr().err
    assert "2 files could not be read" in text
    assert f"{photos}/broken.jpg: " in text
    assert f"{photos}/text.jpg: " in text
    assert "Traceback" not in text
    stems = ["alpha", NASTY[:-4], "cmyk", "deep", "dot", "grey", "plain.jpg", "plain.png", "turned"]
    assert sorted(path.name for path in output.iterdir()) == sorted([*(f"{stem}.png" for stem in stems), "masks", "predictions.json"])
    assert Image.open(output / "turned.png").size == (480, 640)  # upright, and enlarged to be looked at
    assert Image.open(output / "plain.jpg.png").size == (640, 480)
    found = by_file(output)
    assert set(found) >= {"plain.jpg", "plain.png", "turned.jpg", "grey.png", NASTY, "deep.png", "alpha.png", "cmyk.jpg"}
    assert found["plain.jpg"][0]["segmentation"]["size"] == [240, 320]
    assert found["turned.jpg"][0]["segmentation"]["size"] == [320, 240]
    assert [e["bbox"] for e in found["plain.png"]] == [e["bbox"] for e in found["alpha.png"]]  # the same pixels
    assert [e["bbox"] for e in found["grey.png"]] == [e["bbox"] for e in found["deep.png"]]
    drawn = [entry for entry in found["plain.png"] if entry["score"] >= 0.01]
    assert drawn
    for place, entry in enumerate(drawn):
        mask = np.asarray(Image.open(output / "masks" / f"plain.png_{place:03d}.png"))
        np.testing.assert_array_equal(mask, coco_mask.decode(entry["segmentation"]) * 255)


def test_pycocotools_reads_the_results(monkeypatch: pytest.MonkeyPatch, run: Path, photos: Path, tmp_path: Path) -> None:
    assert predicted(monkeypatch, run, f"input={photos}/*plain*", f"output={tmp_path}/out") == 0
    entries = entries_of(tmp_path / "out")
    assert {entry["image_id"] for entry in entries} == {1, 2}
    images = [{"id": image_id, "height": 240, "width": 320} for image_id in (1, 2)]
    (tmp_path / "truth.json").write_text(json.dumps({"images": images, "annotations": [], "categories": [{"id": 1, "name": "person"}]}))
    read = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "out" / "predictions.json"))
    for annotation in read.loadAnns(read.getAnnIds()):
        assert read.annToMask(annotation).shape == (240, 320)
        assert 0 < annotation["score"] <= 1


def test_predict_and_evaluate_find_the_same_instances(monkeypatch: pytest.MonkeyPatch, run: Path, tmp_path: Path) -> None:
    crowds = run.parents[3] / "crowds"
    data = [f"paths.data={crowds}", *(o for o in SMALL if o.startswith("data."))]
    scored = [f"checkpoint={run}/checkpoints/last.ckpt", f"output={tmp_path}/scored", "score_threshold=0.0001", "exclusive=true", *data]
    evaluate.evaluate(composed(*scored, "eval.max_detections=6", name="evaluate"))
    metrics = metrics_of(tmp_path / "scored")
    assert {key.replace("segm/", "segm_exclusive/") for key in metrics if key.startswith("segm/") and "crowd" not in key} <= set(metrics)
    annotations = next(crowds.glob("crowd_easy/*val*.json"))
    truth = json.loads(annotations.read_text())
    listed = [f"input={crowds}/crowd_easy/Images/*.jpg", f"annotations={annotations}"]
    assert predicted(monkeypatch, run, *listed, f"output={tmp_path}/out", "batch_size=4") == 0
    found = by_file(tmp_path / "out")
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    assert {entry["image_id"]: entry["file_name"] for entry in entries_of(tmp_path / "out")} == names, "the images of the json, its ids"
    scored_entries = entries_of(tmp_path / "scored")
    assert scored_entries
    for image_id, name in names.items():
        theirs = [entry for entry in scored_entries if entry["image_id"] == image_id]
        assert len(found[name]) == len(theirs)
        for ours, other in zip(found[name], theirs, strict=True):
            assert ours["score"] == pytest.approx(other["score"], abs=1e-4)
            assert ours["bbox"] == pytest.approx(other["bbox"], abs=0.01)
            assert coco_mask.iou([ours["segmentation"]], [other["segmentation"]], [0])[0, 0] > 0.999 or not coco_mask.area(
                other["segmentation"]
            )
    _score_renumbered(tmp_path, annotations)


def _score_renumbered(folder: Path, annotations: Path) -> None:
    """Results with numbers that are ids of other images score the same, by their file names; without a data root."""
    entries = entries_of(folder / "out")
    (folder / "renumbered.json").write_text(json.dumps([entry | {"image_id": (entry["image_id"] + 1) % 2} for entry in entries]))
    scored = [f"predictions={folder}/renumbered.json", "data=coco", f"data.annotations={annotations}", f"output={folder}/again"]
    evaluate.evaluate(composed(*scored, name="evaluate"))
    assert [entry["image_id"] for entry in entries_of(folder / "again")] == [entry["image_id"] for entry in entries]
    assert metrics_of(folder / "again")["segm/AR100"] == pytest.approx(metrics_of(folder / "scored")["segm/AR100"], abs=1e-6)


def test_exclusive_masks_share_no_pixel(monkeypatch: pytest.MonkeyPatch, run: Path, photos: Path, tmp_path: Path) -> None:
    def claims(output: Path) -> Any:
        return sum(coco_mask.decode(entry["segmentation"]).astype(int) for entry in entries_of(output))

    file = f"input={photos}/plain.png"
    assert predicted(monkeypatch, run, file, f"output={tmp_path}/all", "nms_threshold=0.9") == 0
    assert predicted(monkeypatch, run, file, f"output={tmp_path}/own", "nms_threshold=0.9", "exclusive=true") == 0
    assert claims(tmp_path / "all").max() > 1
    np.testing.assert_array_equal(claims(tmp_path / "own"), claims(tmp_path / "all") > 0)


def test_thresholds_and_sizes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: Path, photos: Path, photo: Image.Image, tmp_path: Path
) -> None:
    file = f"input={photos}/{NASTY}"
    assert predicted(monkeypatch, run, file, f"output={tmp_path}/none", "score_threshold=0.99") == 0
    assert "a shorter side of 96 pixels" in capsys.readouterr().err  # the run's own validation
    assert entries_of(tmp_path / "none") == []
    assert predicted(monkeypatch, run, file, f"output={tmp_path}/some", "draw_threshold=1", "test_size=160", "max_size=200") == 0
    assert "a shorter side of 160 pixels, a longer side of at most 200" in capsys.readouterr().err
    assert entries_of(tmp_path / "some")
    undrawn = [np.asarray(Image.open(tmp_path / folder / f"{NASTY[:-4]}.png")) for folder in ("none", "some")]
    np.testing.assert_array_equal(*undrawn)
    assert predicted(monkeypatch, run, file, f"output={tmp_path}/drawn") == 0
    assert (np.asarray(Image.open(tmp_path / "drawn" / f"{NASTY[:-4]}.png")) != undrawn[0]).any()


def test_large_photo_has_a_small_overlay_and_full_size_results(
    monkeypatch: pytest.MonkeyPatch, run: Path, photo: Image.Image, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    photo.resize((3000, 2250)).save(tmp_path / "in" / "large.jpg")
    assert predicted(monkeypatch, run, f"input={tmp_path}/in", f"output={tmp_path}/in/out", "overlay_size=600", "masks=true") == 0
    assert Image.open(tmp_path / "in" / "out" / "large.png").size == (600, 450)
    entries = entries_of(tmp_path / "in" / "out")
    assert {tuple(entry["segmentation"]["size"]) for entry in entries} == {(2250, 3000)}
    assert max(entry["bbox"][0] + entry["bbox"][2] for entry in entries) > 600
    assert Image.open(tmp_path / "in" / "out" / "masks" / "large_000.png").size == (3000, 2250)


def test_a_video(monkeypatch: pytest.MonkeyPatch, run: Path, photo: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    file = VideoFile(tmp_path / "in" / "clip", 5.0)
    try:
        for shift in range(4):
            file.write(np.roll(np.asarray(photo), 8 * shift, axis=1))
    except DataError:
        pytest.skip("this OpenCV can write no video")
    file.close()
    clip = next((tmp_path / "in").iterdir())
    photo.save(tmp_path / "in" / "still.png")
    assert predicted(monkeypatch, run, f"input={tmp_path}/in", f"output={tmp_path}/out", "batch_size=3", "masks=true") == 0
    drawn = tmp_path / "out" / clip.name
    assert frame_count(drawn) == 4
    assert {frame.shape for frame in read_frames(drawn)} == {(480, 640, 3)}
    found = by_file(tmp_path / "out")
    assert {entry["frame"] for entry in found[clip.name]} == {0, 1, 2, 3}
    assert {entry["image_id"] for entry in found[clip.name]} == {1, 2, 3, 4}
    assert {entry["image_id"] for entry in found["still.png"]} == {5}
    assert "frame" not in found["still.png"][0]
    assert (tmp_path / "out" / "masks" / "clip_frame000003_000.png").is_file()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["input=IN/*.tiff", "output=OUT"], "no such file"),
        (["input=0", "output=OUT"], "cameras, streams and web addresses are not read"),
        (["input=rtsp://host/a", "output=OUT"], "record a video first"),
        (["input=IN", "output=IN"], "a folder other than that of the inputs"),
        (["input=IN/../*/plain.png", "output=IN/.."], "a folder other than that of the inputs"),
        (["input=IN", "output=IN/notes.txt"], "the output is a file"),
        (["input=IN"], "output is needed"),
        (["input=IN", "output=OUT", "categories=[dog]"], "the model does not know the class dog"),
        (["input=IN", "output=OUT", "checkpoint=nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
        (["input=IN", "output=OUT", "device=gpu"], "this device cannot be used"),
        (["input=IN", "output=OUT", "batch_size=0"], "batch_size: invalid value"),
        (["input=IN", "output=OUT", "draw_treshold=0.5"], "did you mean draw_threshold"),
    ],
)
def test_user_errors(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    run: Path,
    photos: Path,
    tmp_path: Path,
    overrides: list[str],
    said: str,
) -> None:
    places = [o.replace("=IN", f"={photos}").replace("=OUT", f"={tmp_path}/out") for o in overrides]
    assert predicted(monkeypatch, run, *places) == 2
    text = capsys.readouterr().err
    assert said in text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()


def test_categories_the_model_knows(monkeypatch: pytest.MonkeyPatch, run: Path, photos: Path, tmp_path: Path) -> None:
    assert predicted(monkeypatch, run, f"input={photos}/plain.png", f"output={tmp_path}", "categories=[person]") == 0
    assert {entry["category_id"] for entry in entries_of(tmp_path)} == {1}


def test_outputs_have_different_names() -> None:
    names = ["a.jpg", "b.jpg", "b.PNG", "b.jpg.jpg", "d/a.jpg", "noend", ".x.jpg"]
    found = output_names([Source(Path("/in") / name, name) for name in names])
    assert list(found.values()) == ["a", "b.jpg", "b.PNG", "b.jpg_", "d/a", "noend", ".x"]
