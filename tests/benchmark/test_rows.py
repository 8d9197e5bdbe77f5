"""Both sides of each row agree on tiny inputs, and the comparison detects differences."""

from __future__ import annotations

import math

import pytest
import torch

from cis_seg.benchmark.measure import ROWS, largest_difference
from cis_seg.benchmark.network_rows import NETWORKS
from cis_seg.benchmark.rows import Setting
from cis_seg.benchmark.textbook import samples_of, scene
from cis_seg.config.plain import to_dataclass
from runs import composed

#: rows that users may rely on
NAMES = (
    "color_similarity pairwise_loss projection_loss dynamic_mask_head overlap_loss mask_losses train_step_480 train_step_800 crowd_400"
    " postprocess dataloader"
)


def test_all_rows_exist() -> None:
    assert set(NAMES.split()) <= set(ROWS)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.tolerance is not None])
def test_both_sides_give_the_same_values(name: str) -> None:
    row, setting = ROWS[name], Setting(quick=True)
    ours, baseline = row.ours(setting), row.baseline(setting)
    numbers = dict(ours())
    assert numbers
    assert all(value.float().abs().max() > 0 for value in numbers.values()), "nothing to compare"
    assert row.tolerance is not None
    assert largest_difference(numbers, dict(baseline())) <= row.tolerance
    assert largest_difference(dict(ours()), numbers) <= 1e-4, "a repeat is the same work"


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_those_of_the_configs(name: str) -> None:
    assert to_dataclass(composed(f"model={name}")).model == NETWORKS[name]
    for row in (ROWS[f"train_step_{name}"], ROWS[f"forward_{name}"]):
        assert all(value.isfinite().all() for value in row.ours(Setting(quick=True))().values())


def test_crowd_trains_more_masks_than_its_baseline() -> None:
    row = ROWS["crowd_400"]
    crowd, few = (dict(side(Setting(quick=True))()) for side in (row.ours, row.baseline))
    assert crowd.keys() == few.keys()
    assert crowd["loss_overlap"] != few["loss_overlap"]


def test_a_teacher_adds_its_term() -> None:
    row = ROWS["train_step_480_teacher"]
    taught, alone = (dict(side(Setting(quick=True))()) for side in (row.ours, row.baseline))
    assert taught.keys() - alone.keys() == {"loss_teacher"}
    assert taught["loss_teacher"] > 0


def test_differences_are_relative_to_the_largest_value() -> None:
    a = {"x": torch.tensor([100.0, 1.0]), "y": torch.tensor([1.0])}
    assert largest_difference(a, a) == 0
    assert largest_difference(a, a | {"x": torch.tensor([100.0, 1.5])}) == pytest.approx(0.005)
    assert largest_difference(a, {"x": a["x"]}) == math.inf
    assert largest_difference(a, a | {"y": torch.tensor([1.0, 1.0])}) == math.inf
    assert math.isnan(largest_difference(a, a | {"y": torch.tensor([torch.nan])}))


def test_scenes_are_deterministic_and_boxes_lie_inside() -> None:
    batch, again = scene((64, 96), 5, batch=2), scene((64, 96), 5, batch=2)
    assert torch.equal(batch.pixels, again.pixels)
    for target in batch.targets:
        assert (target.boxes[:, :2] >= 0).all()
        assert (target.boxes[:, 2:] <= torch.tensor([96, 64])).all()
    samples = samples_of(batch, 7)
    assert samples.counts == (7, 7)
    assert samples.instances == (5, 5)
    assert len(set(samples.gt_inds[:7].tolist())) == 5
