"""Fewer and worse masks: how many remain, how wrong they are, what stays as it is, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cis_seg.annotation.degradation import Degradation, Mask, degraded, degraded_mask
from cis_seg.coco import rle
from cis_seg.coco.entries import Needs
from cis_seg.coco.reader import CocoFile, check_coco
from cis_seg.commands.annotations import degrade_masks as main
from cis_seg.errors import ConfigError

BOXES = [(x, y, 30, 60) for y in (5, 75, 145) for x in range(5, 400, 40)]


def content() -> dict[str, Any]:
    """Thirty people with elliptic masks, one without a mask, and an ignore region."""
    rows, columns = np.indices((210, 420))
    masks = [((columns - x - 15) / 15) ** 2 + ((rows - y - 30) / 30) ** 2 <= 1 for x, y, *_ in BOXES]
    people = [{"bbox": list(box), "segmentation": rle.to_json(rle.encode(mask))} for box, mask in zip(BOXES, masks, strict=True)]
    people += [{"bbox": [1, 1, 9, 9]}, {"bbox": [0, 0, 50, 50], "segmentation": [[0, 0, 50, 0, 50, 50]], "iscrowd": 1}]
    annotations = [{"id": i + 1, "image_id": 3, "category_id": 1, "area": 7, "iscrowd": 0, **person} for i, person in enumerate(people)]
    images = [{"id": 3, "file_name": "3.jpg", "height": 210, "width": 420}]
    return {"info": {"by": "us"}, "images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


def coco() -> CocoFile:
    return check_coco(content(), Path("masks.json"), Needs(masks="optional"))


def masked(annotations: list[dict[str, Any]]) -> set[int]:
    return {a["id"] for a in annotations if a.get("segmentation") and not a["iscrowd"]}


def test_a_share_of_the_masks_remains_and_a_larger_one_includes_it() -> None:
    shares = {share: degraded(coco(), Degradation(mask_share=share)) for share in (0.0, 0.1, 0.5, 1.0)}
    assert [(found.masks, found.people) for found in shares.values()] == [(0, 31), (3, 31), (15, 31), (30, 31)]
    kept = [masked(found.annotations) for found in shares.values()]
    assert kept[0] < kept[1] < kept[2] < kept[3]
    assert shares[1.0].annotations == content()["annotations"]
    assert masked(degraded(coco(), Degradation(mask_share=0.5, seed=1)).annotations) != kept[2]
    assert [found.mean_iou for found in shares.values()] == [None, 1, 1, 1]


def test_noise_lowers_the_iou_and_nothing_else_changes() -> None:
    found = {noise: degraded(coco(), Degradation(noise=noise)) for noise in (0.25, 0.5, 1.0)}
    ious = [result.mean_iou for result in found.values()]
    assert all(iou is not None for iou in ious)
    assert ious == sorted(ious, reverse=True)  # type: ignore[type-var]
    assert 0.65 < ious[0] < 0.85  # type: ignore[operator]
    assert 0.3 < ious[2] < 0.6  # type: ignore[operator]
    for result in found.values():
        for before, after in zip(content()["annotations"], result.annotations, strict=True):
            assert {key: after.get(key) for key in before if key != "segmentation"} == {
                k: v for k, v in before.items() if k != "segmentation"
            }
        assert result.annotations[-2:] == content()["annotations"][-2:]
    assert found[0.5].annotations == degraded(coco(), Degradation(noise=0.5)).annotations


def test_scores_estimate_the_iou_and_never_mean_a_true_mask() -> None:
    file = coco()
    annotations = degraded(file, Degradation(noise=0.5)).annotations[:30]
    true = [rle.from_segmentation(a.entry["segmentation"], (210, 420)) for a in file.annotations[:30]]
    ious = [rle.mask_iou([a["segmentation"]], [t])[0, 0] for a, t in zip(annotations, true, strict=True) if t is not None]
    scores = [a["score"] for a in annotations]
    assert 0.03 < np.std(np.subtract(scores, ious)) < 0.2
    assert max(scores) < 1
    plain = degraded(file, Degradation(noise=0.5, scores=False)).annotations[:30]
    assert [a["segmentation"] for a in plain] == [a["segmentation"] for a in annotations]
    assert not any("score" in a for a in plain)


class Fixed:
    """A generator whose fault and direction are given."""

    def __init__(self, fault: int, angle: float = 0.0) -> None:
        self.fault, self.angle = fault, angle

    def integers(self, _: int) -> int:
        return self.fault

    def uniform(self, *_: float) -> float:
        return self.angle


def changed(fault: int, noise: float, others: list[Mask]) -> Mask:
    """A fault of the square of rows and columns 10 to 19."""
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 10:20] = True
    return degraded_mask(mask, others, noise, Fixed(fault))  # type: ignore[arg-type]


def test_faults_by_hand() -> None:
    far, near = np.zeros((2, 40, 60), dtype=bool)
    far[:, 50:] = True
    near[10:20, 24:28] = True
    grown = changed(0, 1.0, [])  # a radius of 0.1 * sqrt(10 * 10) = 1 px
    assert grown.sum() == 10 * 10 + 4 * 10
    moved = changed(1, 1.0, [])  # by 0.3 * 10 px to the right
    assert (moved.sum(), moved[10:20, 13:23].sum()) == (100, 100)
    joined = changed(2, 0.5, [far, near])  # half of the nearer one: columns 24 and 25
    assert joined.sum() == 100 + 20
    assert joined[10:20, 24:26].all()
    assert np.array_equal(changed(2, 1.0, []), grown), "nobody else is in the image"
    cut = changed(3, 0.5, [])  # the right half
    assert (cut.sum(), cut[10:20, 10:15].sum()) == (50, 50)
    assert not changed(3, 1.0, []).any()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "in.json", tmp_path / "new" / "out.json"
    source.write_text(json.dumps(content()))
    assert main([str(source), str(target), "--mask-share", "0.1", "--noise", "0.5", "--seed", "2"]) == 0
    assert "1 images, 31 instances, 3 with a mask, mean IoU with the masks of in.json 0." in capsys.readouterr().out
    written = json.loads(target.read_text())
    assert {key: written[key] for key in written if key != "annotations"} == {k: v for k, v in content().items() if k != "annotations"}
    assert written["annotations"] == degraded(coco(), Degradation(0.1, 0.5, seed=2)).annotations
    for options, words in ((["--noise", "2"], "noise is out of range"), (["--mask-share", "-1"], "mask_share is out of range")):
        assert main([str(source), str(target), *options]) == 2
        assert words in capsys.readouterr().err
    assert main([str(source), str(source)]) == 2
    assert "would replace the input" in capsys.readouterr().err


def test_values_out_of_range() -> None:
    with pytest.raises(ConfigError, match="the seed is negative"):
        Degradation(seed=-1)
