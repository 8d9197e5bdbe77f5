"""Images and ground truth of the generated crowd."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cis_seg.data.synthetic.canvas import MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE
from cis_seg.data.synthetic.figures import FAR, LINE, Part, draw_figure, sample_outfit
from cis_seg.data.synthetic.pose import joints, sample_pose
from cis_seg.data.synthetic.scene import Scene, compose_scene
from cis_seg.data.synthetic.spec import EASY, PRESETS, REAL, CrowdSpec
from cis_seg.errors import DataError

SMALL = replace(EASY, height=120, width=160, min_person_height=60.0, max_person_height=100.0)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [compose_scene(replace(SMALL, ignore_probability=0.5), 0, index) for index in range(24)]


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)


def test_scene_is_a_function_of_spec_split_and_index() -> None:
    first, again = compose_scene(SMALL, 0, 3), compose_scene(SMALL, 0, 3)
    assert np.array_equal(first.image, again.image)
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(first.people, again.people, strict=True))
    for other in (compose_scene(SMALL, 1, 3), compose_scene(SMALL, 0, 4), compose_scene(replace(SMALL, seed=1), 0, 3)):
        assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_generate_the_stated_size_and_number(name: str) -> None:
    spec = PRESETS[name]
    scene = compose_scene(spec, 1, 0)
    assert scene.image.shape == (spec.height, spec.width, 3)
    assert scene.image.dtype == np.uint8
    assert 1 <= len(scene.people) <= spec.max_people


def test_visible_boxes_are_the_tight_boxes_of_disjoint_masks(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert np.sum([person.mask for person in scene.people], axis=0).max() == 1
        for person in scene.people:
            assert person.visible_box == tight_box(person.mask)
            assert person.mask.shape == (SMALL.height, SMALL.width)


def test_full_boxes_hold_visible_boxes_and_heads_hold_their_place(scenes: list[Scene]) -> None:
    for person in (person for scene in scenes for person in scene.people):
        (vx, vy, vw, vh), (fx, fy, fw, fh), (hx, hy, hw, hh) = person.visible_box, person.full_box, person.head_box
        assert fx <= vx
        assert fy <= vy
        assert vx + vw <= fx + fw
        assert vy + vh <= fy + fh
        assert fx - 2 <= hx
        assert hx + hw <= fx + fw + 2
        assert fy - 2 <= hy
        assert hy + hh < fy + 0.6 * fh
        assert 0 <= person.head_share <= 1


def test_people_are_cut_by_the_border_hidden_by_others_and_alone(scenes: list[Scene]) -> None:
    people = [person for scene in scenes for person in scene.people]
    assert any(person.full_box[0] < 0 for person in people)
    assert any(person.full_box[0] + person.full_box[2] > SMALL.width for person in people)
    assert any(person.full_box[1] + person.full_box[3] > SMALL.height for person in people)
    assert any(person.visible_share > 0.97 for person in people)
    assert sum(person.visible_share < 0.9 for person in people) > 0.2 * len(people)


def test_barely_visible_people_are_ignored(scenes: list[Scene]) -> None:
    people = [person for scene in scenes for person in scene.people]
    assert any(person.ignored for person in people)
    for person in people:
        assert person.ignored == (person.visible_share < MIN_VISIBLE_SHARE or person.mask.sum() < MIN_VISIBLE_PIXELS)


def test_ignore_regions_lie_in_the_image_and_overlap_no_person(scenes: list[Scene]) -> None:
    regions = [region for scene in scenes for region in scene.ignore_regions]
    assert regions
    for x, y, w, h in regions:
        assert 0 <= x < x + w <= SMALL.width
        assert 0 <= y < y + h <= SMALL.height
    none = [compose_scene(replace(SMALL, ignore_probability=0.0), 0, index).ignore_regions for index in range(4)]
    assert none == [()] * 4


def test_figure_is_one_piece_with_every_part_and_its_height() -> None:
    rng = np.random.default_rng(0)
    drawn: set[int] = set()
    for _ in range(30):
        pose = sample_pose(rng)
        figure = draw_figure(rng, pose, sample_outfit(rng), 200.0, (50.0, 300.0))
        assert (figure.parts[0] > 0).any()
        assert (figure.parts[:, 0] > 0).any()
        bottom = figure.top + figure.parts.shape[0]
        assert abs(bottom - 300) <= 4  # soles on the ground
        assert 160 <= bottom - min(figure.top, figure.head_box[1]) <= 275  # legs apart make smaller, raised arms taller
        drawn |= set(np.unique(figure.parts).tolist())
        skeleton = joints(pose, 1.0)
        assert max(ankle[1] for ankle in skeleton.ankles) == pytest.approx(-0.035)
    assert {int(part) for part in Part} <= drawn
    assert Part.SLEEVE + LINE in drawn
    assert Part.TROUSERS + FAR in drawn


def test_match_background_gives_clothes_the_background_colour() -> None:
    def contrast(match: float) -> float:
        alone = replace(SMALL, min_people=1, max_people=1, one_color=1.0, clothes_texture=0.0, ignore_probability=0.0)
        spec = replace(alone, match_background=match)
        values = []
        for index in range(12):
            scene = compose_scene(spec, 0, index)
            for person in scene.people:
                x, y, w, h = person.visible_box
                box = scene.image[y : y + h, x : x + w].astype(float)
                mask = person.mask[y : y + h, x : x + w]
                values.append(float(np.abs(np.median(box[mask], 0) - np.median(box[~mask], 0)).mean()))
        return float(np.median(values))

    assert contrast(1.0) < 0.5 * contrast(0.0)


@pytest.mark.parametrize("change", [{"crowding": 1.5}, {"train_images": 0}, {"min_people": 9}, {"jpeg_quality": 101}, {"seed": -1}])
def test_spec_names_the_field_out_of_range(change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=next(iter(change))):
        replace(EASY, **change)


def test_presets_differ_in_difficulty() -> None:
    assert isinstance(REAL, CrowdSpec)
    assert REAL.clothes_texture > EASY.clothes_texture
    assert REAL.match_background > EASY.match_background
