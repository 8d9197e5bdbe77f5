"""Pictures: what must be visible is visible, and nothing else changes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.structures import Instances
from cis_seg.visualization.drawing import (
    PALETTE,
    Drawing,
    contact_sheet,
    draw_instances,
    far_to_near,
    fitted_mask,
    neighbour_colors,
    predicted_drawings,
    resized,
    side_by_side,
    true_drawings,
    truth_and_prediction,
    view_scale,
)
from cis_seg.visualization.fonts import class_captions, fitted

HEIGHT, WIDTH = 480, 720


def drawing(x0: int, y0: int, x1: int, y1: int, caption: str = "", size: tuple[int, int] = (HEIGHT, WIDTH)) -> Drawing:
    mask = np.zeros(size, dtype=np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    return Drawing((x0, y0, x1, y1), coco_mask.encode(mask), caption=caption)


def gray(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.full((height, width, 3), 100, dtype=np.uint8)


def test_neighbours_have_different_colors() -> None:
    row = [drawing(40 * k, 0, 40 * k + 60, 50) for k in range(12)]
    colors = neighbour_colors(row)
    assert all(a != b for a, b in itertools.pairwise(colors))
    assert colors == neighbour_colors(row)
    pile = [drawing(k, 0, 100, 100) for k in range(len(PALETTE))]
    assert sorted(neighbour_colors(pile)) == list(range(len(PALETTE)))


def test_the_same_person_keeps_the_color() -> None:
    truth = [drawing(0, 0, 100, 100), drawing(50, 0, 150, 100), drawing(400, 0, 500, 100)]
    true_colors = neighbour_colors(truth)
    predictions = [drawing(402, 3, 500, 100), drawing(200, 200, 220, 220), drawing(52, 0, 149, 100)]
    colors = neighbour_colors(predictions, truth, true_colors)
    assert (colors[0], colors[2]) == (true_colors[2], true_colors[1])
    assert neighbour_colors([], truth, true_colors) == []


@pytest.mark.parametrize(
    ("size", "max_side", "scale"),
    [((240, 320), None, 2), ((160, 224), None, 3), ((480, 640), None, 1), ((5152, 5760), 1280, 1280 / 5760), ((5152, 5760), None, 1)],
)
def test_view_scale(size: tuple[int, int], max_side: int | None, scale: float) -> None:
    assert view_scale(size, max_side) == pytest.approx(scale)


def test_fill_inside_outline_on_the_edge_nothing_outside() -> None:
    image = gray()
    view = draw_instances(image, [drawing(100, 100, 200, 300)], [0])
    assert (image == 100).all()
    assert view.shape == image.shape
    red = np.array(PALETTE[0])
    assert np.abs(view[200, 150] - (100 * 0.58 + red * 0.42)).max() <= 1
    assert (view[200, 100] == red).all()
    outside = np.ones((HEIGHT, WIDTH), dtype=bool)
    outside[96:304, 96:204] = False
    assert (view[outside] == 100).all()


def test_overlapping_masks_show_both_outlines() -> None:
    view = draw_instances(gray(), [drawing(100, 100, 300, 300), drawing(200, 100, 400, 300)], [0, 1])
    assert (view[200, 200] == PALETTE[1]).all()
    assert (view[200, 299] == PALETTE[0]).all()


def test_small_images_are_enlarged_and_large_ones_reduced() -> None:
    assert draw_instances(gray(240, 320), [drawing(10, 10, 50, 90, "0.93", (240, 320))]).shape == (480, 640, 3)
    assert draw_instances(gray(500, 1000), [drawing(10, 10, 50, 90, "0.93", (500, 1000))], max_side=800).shape == (400, 800, 3)
    assert draw_instances(gray(), []).shape == (HEIGHT, WIDTH, 3)


def test_captions_do_not_cover_each_other() -> None:
    plain = draw_instances(gray(), [drawing(100, 100, 300, 300)] * 2, [0, 1])
    captioned = draw_instances(gray(), [drawing(100, 100, 300, 300, "0.50")] * 2, [0, 1])
    rows = np.flatnonzero((plain != captioned).any(axis=(1, 2)))
    one = draw_instances(gray(), [drawing(100, 100, 300, 300, "0.50"), drawing(100, 100, 300, 300)], [0, 1])
    one_rows = np.flatnonzero((plain != one).any(axis=(1, 2)))
    assert np.ptp(rows) >= 2 * np.ptp(one_rows)


def test_a_reduced_copy_is_drawn_in_pixels_of_the_original() -> None:
    view = draw_instances(gray(240, 360), [drawing(100, 100, 300, 300)], [0], size=(HEIGHT, WIDTH))
    assert view.shape == (HEIGHT, WIDTH, 3)  # a copy of 360 px is enlarged like any small image
    np.testing.assert_array_equal(
        (view != 100).any(axis=2), (draw_instances(gray(), [drawing(100, 100, 300, 300)], [0]) != 100).any(axis=2)
    )
    copy = draw_instances(gray(500, 1000), [drawing(2000, 200, 4000, 3800, "0.9", (4000, 8000))], [0], size=(4000, 8000))
    rows, columns = np.nonzero((copy != 100).any(axis=2))
    assert [rows.max(), columns.min(), columns.max()] == pytest.approx([475, 250, 500], abs=3)


def test_caption_is_on_the_mask_without_boxes() -> None:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    mask[200:400, 300:340] = 1
    person = Drawing((100, 100, 500, 400), coco_mask.encode(mask), caption="0.93")
    changed = (draw_instances(gray(), [person], [0], boxes=False) != 100).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert 170 < rows.min() < 190
    assert columns.min() > 280
    assert columns.max() < 345
    nobody = Drawing((100, 100, 500, 400), None)
    assert (draw_instances(gray(), [nobody], [0], boxes=False) != 100).any(), "what has no mask is drawn as its box"


def test_nearer_person_is_drawn_on_top() -> None:
    near, far = drawing(100, 50, 300, 400), drawing(200, 100, 400, 300)
    cut_tall, cut_small = drawing(0, 100, 90, HEIGHT), drawing(50, 300, 120, HEIGHT)
    assert far_to_near([near, cut_tall, far, cut_small]) == [far, near, cut_small, cut_tall]
    view = draw_instances(gray(), far_to_near([near, far]), [1, 0])
    assert (view[200, 299] == PALETTE[0]).all()  # the near one's outline inside the far one
    assert np.abs(view[250, 250].astype(int) - PALETTE[0]).sum() < np.abs(view[250, 250].astype(int) - PALETTE[1]).sum()


@pytest.mark.parametrize("scale", [0.25, 1, 3])
def test_masks_keep_their_shape_at_every_size(scale: float) -> None:
    y, x = np.mgrid[:120, :160]
    disc = ((y - 60) ** 2 + (x - 80) ** 2 < 50**2).astype(np.uint8)
    fitted = fitted_mask(coco_mask.encode(np.asfortranarray(disc)), (round(120 * scale), round(160 * scale)))
    assert fitted.shape == (round(120 * scale), round(160 * scale))
    assert set(np.unique(fitted)) == {0, 1}
    assert fitted.sum() / scale**2 == pytest.approx(disc.sum(), rel=0.02)
    if scale == 1:
        np.testing.assert_array_equal(fitted, disc)
    if scale == 3:
        steps = np.abs(np.diff(fitted.argmax(axis=1)[60:120]))  # the left edge, row by row
        stairs = np.abs(np.diff(np.kron(disc, np.ones((3, 3))).argmax(axis=1)[60:120]))
        assert steps.max() < stairs.max(), "smoother than enlarged pixels"


def test_predictions_below_the_threshold_are_left_out() -> None:
    code = drawing(0, 0, 10, 10).mask
    assert code is not None
    mask = {"size": code["size"], "counts": code["counts"]}
    instances = Instances(
        torch.tensor([[0.0, 0, 10, 10]]).repeat(3, 1),
        torch.tensor([0.9, 0.3, 0.29]),
        torch.tensor([1, 0, 0]),
        (mask, mask, mask),
        (HEIGHT, WIDTH),
    )  # type: ignore[arg-type]
    assert [d.caption for d in predicted_drawings(instances, ["person", "dog"], 0.25)] == ["dog 0.90", "person 0.30", "person 0.29"]
    single = Instances(instances.boxes, instances.scores, torch.zeros(3, dtype=torch.int64), instances.masks, instances.image_size)
    assert [d.caption for d in predicted_drawings(single, ["person"], 0.295)] == ["0.90", "0.30"]


def test_ground_truth_drawings(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    square = [[10, 10, 30, 10, 30, 30, 10, 30]]
    people = [
        {
            "id": k,
            "image_id": 1,
            "category_id": 1,
            "bbox": [10, 10, 20, 20],
            "iscrowd": int(k == 3),
            "segmentation": None if k == 2 else square,
        }
        for k in (1, 2, 3)
    ]
    path.write_text(
        json.dumps({"images": [{"id": 1, "height": 100, "width": 100}], "annotations": people, "categories": [{"id": 1, "name": "person"}]})
    )
    crowd, first, maskless = true_drawings(GroundTruth(path), 1)
    assert (crowd.crowd, crowd.caption) == (True, "crowd")
    assert (first.box, first.caption, first.score) == ((10, 10, 30, 30), "", None)
    assert maskless.mask is None
    view = draw_instances(gray(100, 100), [maskless], [0])
    assert (view == 100).all(axis=2)[130:150, 130:150].all()  # its box is drawn, nothing is filled
    assert true_drawings(GroundTruth(path), 5) == []


def test_panels_are_placed_side_by_side_and_on_a_sheet() -> None:
    panel = truth_and_prediction(gray(), [drawing(10, 10, 100, 100)], [drawing(12, 10, 100, 100, "0.9")])
    head = panel.shape[0] - HEIGHT
    assert 10 < head < 60
    assert panel.shape[1] == 2 * WIDTH + 8
    assert (panel[:head] < 100).any(), "the titles are written"
    assert (panel[head + 200, WIDTH + 4] == 255).all()
    unequal = side_by_side([gray(100, 50), gray(60, 80)], ["a", "b"])
    assert unequal.shape[1] == 50 + 8 + 80
    sheet = contact_sheet([panel, panel, gray(1000, 100)], width=400, height=200)
    assert sheet.shape[1] == 2 * 408
    assert (sheet[-8:] == 255).all()
    assert (sheet == 100).any()


def test_labels_survive_resizing() -> None:
    labels = np.array([[0, 7], [3, 255]], dtype=np.uint8)
    assert set(np.unique(resized(labels, 3.5, smooth=False))) == {0, 3, 7, 255}


def test_names_in_any_script_are_drawn(caplog: pytest.LogCaptureFixture) -> None:
    """matplotlib's own font has Cyrillic and Arabic; a name that no font has becomes the number of its class, with one warning."""
    unknown = "\U0003fffd"
    for _ in range(2):
        captions = class_captions(["person", "собака", "شخص", unknown])
    assert captions == ["person", "собака", "شخص", "class 3"]
    assert caplog.text.count("it is drawn as class 3") == 1
    assert fitted(f"{unknown}.jpg", 12)[0] == "\\U0003fffd.jpg"
    text, font = fitted("собака", 20)
    shapes = {bytes(font.getmask(letter)) for letter in text}
    assert len(shapes) == len(set(text)), "every letter has its own shape, not an empty box"
