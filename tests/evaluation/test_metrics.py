"""Scores against pycocotools itself, and against numbers worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cis_seg.coco.ground_truth import GroundTruth, silenced
from cis_seg.coco.results import read_results
from cis_seg.errors import ConfigError, DataError
from cis_seg.evaluation.baselines import baseline_results, crowd_bins, mask_to_box, mean_overlap_degree, occlusion_ranges
from cis_seg.evaluation.metrics import baselines, score
from coco_scores import jittered, pycocotools_scores

SIDE = 100
FULL = pytest.approx(100)  # COCOeval adds an eps to the precision's denominator


def rectangle(x: int, y: int, width: int, height: int) -> list[list[int]]:
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def person(number: int, image: int, box: tuple[int, int, int, int], **more: Any) -> dict[str, Any]:
    area = box[2] * box[3]
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": list(box),
        "area": area,
        "iscrowd": 0,
        "segmentation": rectangle(*box),
    } | more


def found(image: int, box: tuple[int, int, int, int], score: float = 0.9) -> dict[str, Any]:
    rle = coco_mask.merge(coco_mask.frPyObjects(rectangle(*box), SIDE, SIDE))
    return {"image_id": image, "category_id": 1, "bbox": list(box), "score": score, "segmentation": rle}


def written(folder: Path, annotations: list[dict[str, Any]], images: int = 2) -> Path:
    path = folder / "truth.json"
    path.write_text(json.dumps({
        "images": [{"id": i, "height": SIDE, "width": SIDE, "file_name": f"{i}.jpg"} for i in range(images)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": annotations,
    }))  # fmt: skip
    return path


def truth(folder: Path, annotations: list[dict[str, Any]], images: int = 2) -> GroundTruth:
    return GroundTruth(written(folder, annotations, images))


@pytest.mark.parametrize("with_boxes", [True, False])
def test_equals_pycocotools_to_the_last_digit(shared_data: Path, tmp_path: Path, with_boxes: bool) -> None:
    truth_file = shared_data / "coco_mini" / "annotations" / "instances_val2017.json"
    entries = jittered(truth_file, seed=3)
    if not with_boxes:
        entries = [{key: value for key, value in entry.items() if key != "bbox"} for entry in entries]
    results_file = tmp_path / "results.json"
    results_file.write_text(json.dumps(entries))
    ours = GroundTruth(truth_file)
    scores = score(ours, read_results(results_file, ours)).metrics
    for iou_type in ("segm", "bbox"):
        theirs = pycocotools_scores(truth_file, results_file, iou_type)
        assert {name: scores[f"{iou_type}/{name}"] for name in theirs} == theirs
        alone = pycocotools_scores(truth_file, results_file, iou_type, ["person"])
        assert scores[f"{iou_type}/AP/person"] == alone["AP"]
        restricted = GroundTruth(truth_file, ["person"])
        assert score(restricted, read_results(results_file, restricted)).metrics[f"{iou_type}/AP"] == alone["AP"]
    assert scores["num_images"] == 35
    assert scores["num_annotations"] == 366
    assert scores["segm/AP"] is not None
    assert 20 < scores["segm/AP"] < 90


@pytest.fixture(scope="module")
def cis(shared_data: Path) -> GroundTruth:
    return GroundTruth(shared_data / "cis" / "CIS.json")


def test_cis_baselines_and_quirks(cis: GroundTruth) -> None:
    """PAPER.md: the filled box scores AP 2.2 to 2.5, the inscribed ellipse 7.3 to 7.7; the truth itself 100."""
    assert cis.dropped_parts == 5
    box = score(cis, baseline_results(cis, "box"), iou_types=("segm",)).metrics
    ellipse = score(cis, baseline_results(cis, "ellipse"), iou_types=("segm",)).metrics
    assert 2.2 <= (box["segm/AP"] or 0) <= 2.5
    assert 7.3 <= (ellipse["segm/AP"] or 0) <= 7.7
    assert box["segm/AP50"] == box["floor/box_AP50"]
    assert ellipse["segm/AP50"] == box["floor/ellipse_AP50"]
    assert box["floor/mask_to_box"] == pytest.approx(0.45, abs=0.005)
    itself = [{**annotation, "score": 1.0} for annotation in cis.annotations]
    assert score(cis, itself, iou_types=("segm",)).metrics["segm/AP"] == FULL  # by the published areas too
    scores = score(cis, itself, iou_types=("segm",), area="mask").metrics
    assert scores["segm/AP"] == FULL
    assert scores["num_annotations"] == 3453
    assert [scores[f"segm/AP/crowd_{name}"] for name in ("none", "low", "mid", "high")] == [FULL] * 4


def test_area_protocol_on_cis(cis: GroundTruth) -> None:
    """By their masks 350 people are small (data/README.md); the file's areas are those of the boxes, so fewer."""
    small = [a for a in cis.annotations if coco_mask.area(a["segmentation"]) < 32**2]
    assert len(small) == 350
    results = [{**annotation, "score": 1.0} for annotation in small]
    by_mask = score(cis, results, iou_types=("segm",), area="mask").metrics
    assert by_mask["segm/APs"] == FULL
    assert (by_mask["segm/APm"] or 0) < 1  # not 0: a few people are outlined twice, smaller and larger
    assert (score(cis, results, iou_types=("segm",)).metrics["segm/APm"] or 0) > 20


def test_hand_made_average_precision(tmp_path: Path) -> None:
    """One of two people found and one false alarm below it: precision 1 at the 51 recalls 0 .. 0.5 of 101."""
    ours = truth(tmp_path, [person(1, 0, (10, 10, 20, 40)), person(2, 1, (50, 20, 20, 40))])
    scores = score(ours, [found(0, (10, 10, 20, 40), 0.9), found(1, (5, 5, 20, 40), 0.8)]).metrics
    for key in ("segm/AP", "segm/AP50", "bbox/AP", "segm/APs", "segm/AP/person", "segm/AP/crowd_none"):
        assert scores[key] == pytest.approx(100 * 51 / 101), key
    assert scores["segm/AR100"] == pytest.approx(50)
    assert scores["segm/APl"] is None
    assert scores["segm/AP/crowd_high"] is None
    assert scores["overlap/mean_degree"] is None
    assert scores["shape/mask_to_box"] == 1
    assert scores["num_images"] == 2


def test_annotation_id_zero_can_be_matched(tmp_path: Path) -> None:
    path = written(tmp_path, [person(0, 0, (10, 10, 20, 40))])
    results = [found(0, (10, 10, 20, 40))]
    with silenced():
        theirs = COCO(str(path))
        evaluator = COCOeval(theirs, theirs.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    assert evaluator.stats[0] < 1, "pycocotools reads id 0 as no match"
    assert score(GroundTruth(path), results).metrics["segm/AP"] == FULL


def test_no_results_score_zero(tmp_path: Path) -> None:
    scores = score(truth(tmp_path, [person(1, 0, (10, 10, 20, 40))]), []).metrics
    assert scores["segm/AP"] == 0
    assert scores["bbox/AP50"] == 0
    assert scores["shape/mask_to_box"] is None
    assert json.loads(json.dumps(scores)) == scores


def test_overlap_degree_by_hand() -> None:
    box, beside, far = (10, 10, 20, 20), (30, 10, 20, 20), (60, 60, 10, 10)
    assert mean_overlap_degree([found(0, box), found(0, box)]) == 0.5
    assert mean_overlap_degree([found(0, box), found(0, beside)]) == 0  # boxes that share an edge touch, the masks do not
    assert mean_overlap_degree([found(0, box), found(0, far)]) is None
    assert mean_overlap_degree([found(0, box), found(1, box)]) is None
    half = (20, 10, 20, 20)  # 200 px of 400 + 400 are shared
    assert mean_overlap_degree([found(0, box), found(0, half)]) == pytest.approx(0.25)
    mixed = [found(0, box), found(0, box), found(0, far), found(1, box), found(1, half)]
    assert mean_overlap_degree(mixed) == pytest.approx((0.5 + 0.25) / 2)


def test_overlap_and_shape_count_shown_predictions_only(tmp_path: Path) -> None:
    ours = truth(tmp_path, [person(1, 0, (10, 10, 20, 40))])
    shown, hidden = found(0, (10, 10, 20, 40), 0.3), found(0, (10, 10, 20, 40), 0.29)
    hidden["bbox"] = [0, 0, 100, 100]
    scores = score(ours, [shown, hidden]).metrics
    assert scores["overlap/mean_degree"] is None
    assert scores["shape/mask_to_box"] == 1


def test_mask_to_box_by_hand() -> None:
    entries = [found(0, (0, 0, 10, 10)) | {"bbox": [0, 0, 10, 10 * factor]} for factor in (1, 2, 4)]
    assert mask_to_box(entries) == 0.5
    assert mask_to_box([found(0, (0, 0, 10, 10)) | {"bbox": [0, 0, 0, 5]}]) is None


def test_crowd_bins(tmp_path: Path) -> None:
    """Boxes of 20 x 20 shifted by d share (20 - d) / (20 + d): 1/3 for 10, 1/9 for 16, 9/11 for 2."""
    pairs = [(0, 10, "mid"), (1, 16, "low"), (2, 2, "high")]
    people = [person(2 * image + k + 1, image, (10 + k * d, 10, 20, 20)) for image, d, _ in pairs for k in (0, 1)]
    alone = person(7, 3, (10, 10, 20, 20))
    crowd = person(8, 3, (10, 10, 20, 20), iscrowd=1)
    ours = truth(tmp_path, [*people, alone, crowd], images=4)
    expected = {2 * image + k + 1: name for image, _, name in pairs for k in (0, 1)} | {7: "none"}
    assert crowd_bins(ours.annotations) == expected
    scores = score(ours, [found(3, (10, 10, 20, 20)), found(0, (10, 10, 20, 20))]).metrics
    assert scores["segm/AP/crowd_none"] == FULL  # the missed people of the other bins cost nothing
    assert scores["segm/AP/crowd_mid"] == pytest.approx(100 * 51 / 101)
    assert scores["segm/AP/crowd_low"] == 0
    assert scores["segm/AP/crowd_high"] == 0


def test_annotation_without_mask_is_an_ignore_region(tmp_path: Path) -> None:
    maskless = person(2, 0, (50, 10, 30, 60))
    del maskless["segmentation"]
    ours = truth(tmp_path, [person(1, 0, (10, 10, 20, 40)), maskless, person(3, 1, (5, 5, 9, 9), segmentation=[])])
    assert ours.maskless == {2, 3}
    inside = found(0, (55, 20, 10, 30), 0.99)
    scores = score(ours, [inside, found(0, (10, 10, 20, 40), 0.9)]).metrics
    assert scores["segm/AP"] == FULL  # neither the mask inside the region nor the two missing masks cost anything
    assert (scores["bbox/AP"] or 0) < 50
    assert scores["floor/box_AP50"] == FULL


def test_ground_truth_without_masks_scores_boxes(tmp_path: Path) -> None:
    ours = truth(tmp_path, [person(1, 0, (10, 10, 20, 40), segmentation=None)])
    scores = score(ours, [found(0, (10, 10, 20, 40))]).metrics
    assert scores["bbox/AP"] == FULL
    assert scores["segm/AP"] is None
    assert scores["segm/AP/person"] is None
    assert "floor/box_AP50" not in scores


def test_results_without_masks_score_boxes(tmp_path: Path) -> None:
    ours = truth(tmp_path, [person(1, 0, (10, 10, 20, 40))])
    scores = score(ours, [{"image_id": 0, "category_id": 1, "bbox": [10, 10, 20, 40], "score": 0.5}]).metrics
    assert scores["bbox/AP"] == FULL
    assert scores["segm/AP"] is None
    assert scores["floor/box_AP50"] == FULL


def test_missing_area(tmp_path: Path) -> None:
    annotation = person(7, 0, (10, 10, 20, 40))
    del annotation["area"]
    ours = truth(tmp_path, [annotation])
    with pytest.raises(DataError, match=r"annotation 7(.|\n)*eval\.area=mask"):
        score(ours, [])
    assert score(ours, [found(0, (10, 10, 20, 40))], area="mask").metrics["segm/APs"] == FULL
    with pytest.raises(ConfigError, match=r"eval\.area"):
        score(ours, [], area="box")


def test_scoring_does_not_modify_results_or_ground_truth(tmp_path: Path) -> None:
    ours = truth(tmp_path, [person(1, 0, (10, 10, 20, 40)), person(2, 0, (20, 10, 20, 40))])
    results = [found(0, (10, 10, 20, 40))]
    before = json.dumps(results, default=str)
    first = score(ours, results).metrics
    assert json.dumps(results, default=str) == before
    score(ours, results, area="mask")
    assert score(ours, results).metrics == first


def test_baselines_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = truth(tmp_path, [person(1, 0, (10, 10, 20, 40))])
    first = baselines(ours)
    monkeypatch.setattr("cis_seg.evaluation.metrics.baseline_results", None)
    assert baselines(ours) == first == {"floor/box_AP50": FULL, "floor/ellipse_AP50": FULL, "floor/mask_to_box": 1}


def test_ellipse_fills_pi_quarters_of_its_box(tmp_path: Path) -> None:
    ours = truth(tmp_path, [person(1, 0, (10, 10, 40, 80)), person(2, 0, (80, 60, 60, 60)), person(3, 0, (0, 0, 9, 9), iscrowd=1)])
    ellipse, cut = baseline_results(ours, "ellipse")
    assert coco_mask.area(ellipse["segmentation"]) == pytest.approx(np.pi / 4 * 40 * 80, rel=0.01)
    assert coco_mask.area(cut["segmentation"]) == pytest.approx(np.pi / 4 * 20 * 40, rel=0.03)  # of the part inside the image


def test_the_published_file_is_recognised_and_others_are_counted(
    shared_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = shared_data / "cis" / "CIS.json"
    with caplog.at_level("INFO", logger="cis_seg"):
        GroundTruth(source)
        assert "459 images, 3,453 instances" in caplog.text
        assert "463" in caplog.text
        assert "5 polygon parts of fewer than 3 points left out" in caplog.text
        caplog.clear()
        content = json.loads(source.read_text())
        content["annotations"].pop()
        (tmp_path / "CIS.json").write_text(json.dumps(content))
        GroundTruth(tmp_path / "CIS.json")
        assert "459 images, 3452 annotations" in caplog.text
        assert "463" not in caplog.text


def test_small_ellipses_keep_the_centre(tmp_path: Path) -> None:
    ours = truth(tmp_path, [person(1, 0, (10, 10, 40, 80))])
    (small,) = baseline_results(ours, "small_ellipse")
    assert coco_mask.area(small["segmentation"]) == pytest.approx(0.81 * np.pi / 4 * 40 * 80, rel=0.01)
    x, y, w, h = coco_mask.toBbox(small["segmentation"])
    assert (x + w / 2, y + h / 2) == pytest.approx((30, 50), abs=0.6)


def test_curves_are_precision_over_recall_at_two_thresholds(tmp_path: Path) -> None:
    ours = truth(tmp_path, [person(1, 0, (10, 10, 20, 40)), person(2, 0, (60, 10, 20, 40))])
    results = [found(0, (10, 10, 20, 40), 0.9), found(0, (40, 60, 10, 10), 0.8), found(0, (60, 10, 20, 28), 0.7)]  # the last: IoU 0.7
    evaluation = score(ours, results)
    assert evaluation.metrics == score(ours, results).metrics
    for kind in ("segm", "bbox"):
        at50, at75 = (evaluation.curves[f"{kind}/{threshold}"] for threshold in (50, 75))
        assert at50 == pytest.approx([1.0] * 51 + [2 / 3] * 50)  # all recalls to 0.5 with one detection, the rest with three
        assert at75 == pytest.approx([1.0] * 51 + [0.0] * 50)
        assert 100 * at75.mean() == pytest.approx(evaluation.metrics[f"{kind}/AP75"])


def test_no_curve_without_measured_entries(tmp_path: Path) -> None:
    assert score(truth(tmp_path, []), [found(0, (10, 10, 20, 40))]).curves == {}
    maskless = truth(tmp_path, [person(1, 0, (10, 10, 20, 40), segmentation=[])])
    assert score(maskless, [found(0, (10, 10, 20, 40))]).curves.keys() == {"bbox/50", "bbox/75"}


def test_occlusion_ranges_by_hand(tmp_path: Path) -> None:
    """Boxes of 20 x 20 shifted by d share (20 - d) / (20 + d): 2/3 for 4, 9/11 for 2, 1/3 for 10; a box shares 1/2 with its half."""
    shifts = {0: 4, 1: 2, 2: 10}
    people = [person(2 * image + k + 1, image, (10 + k * d, 10, 20, 20)) for image, d in shifts.items() for k in (0, 1)]
    halves = [person(7, 3, (10, 10, 20, 20)), person(8, 3, (10, 10, 10, 20))]
    stated = [person(9, 4, (10, 10, 20, 20), max_iou=0.75), person(10, 4, (60, 60, 20, 20), max_iou=0.2)]
    ours = truth(tmp_path, [*people, *halves, *stated], images=5)
    ranges = {1: "moderate", 2: "moderate", 3: "hard", 4: "hard", 5: "", 6: "", 7: "moderate", 8: "moderate", 9: "hard", 10: ""}
    assert occlusion_ranges(ours.annotations) == ranges
    # of the four moderate people two are found, and of the three hard ones none; detections of others are ignored
    results = [found(0, (10, 10, 20, 20)), found(3, (10, 10, 20, 20)), found(2, (10, 10, 20, 20))]
    scores = score(ours, results).metrics
    for kind in ("segm", "bbox"):
        assert scores[f"occlusion/{kind}_AR/moderate"] == pytest.approx(50)
        assert scores[f"occlusion/{kind}_AP/moderate"] == pytest.approx(100 * 51 / 101)
        assert scores[f"occlusion/{kind}_AR/hard"] == scores[f"occlusion/{kind}_AP/hard"] == 0
    assert scores["segm/AR/crowd_mid"] == pytest.approx(50)  # one of two at 1/3, one of two at 1/2
    assert scores["segm/AR/crowd_high"] == pytest.approx(100 / 4)
