"""Mean and standard deviation over seeds, and OverlapLoss against its control, seed by seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cis_seg.errors import DataError
from cis_seg.reports.groups import Group, Spread, gain, grouped, mixed_protocols, retention, spread
from cis_seg.reports.runs import find_runs
from finished_runs import write_evaluation, write_run


def groups_of(*paths: Path) -> dict[str, Group]:
    return {f"{group.first.name} {group.first.weight:g}": group for group in grouped(find_runs(paths)[0])}


def test_mean_and_sample_standard_deviation() -> None:
    found = spread([1.0, 2.0, 6.0, None])
    assert (found.mean, found.n) == (3.0, 3)
    assert found.std == pytest.approx(7**0.5)  # ((-2)^2 + (-1)^2 + 3^2) / (3 - 1)
    assert spread([5.0]) == Spread(5.0, std=None, n=1)
    assert spread([None]) == Spread(None, std=None, n=0)


def test_gain_is_computed_per_seed(tmp_path: Path) -> None:
    for seed, without, with_ in ((0, 10.0, 12.0), (1, 20.0, 23.0), (2, 30.0, 37.0)):
        write_run(tmp_path, "x_finetune", seed, ap=without)
        write_run(tmp_path, "x_finetune_overlap", seed, ap=with_, weight=2.0)
    write_run(tmp_path, "x_finetune", 3, ap=99.0)  # unpaired: part of the mean, not of the gain
    groups = groups_of(tmp_path)
    control, overlap = groups["x_finetune 0"], groups["x_finetune_overlap 2"]
    assert control.spread("AP").mean == pytest.approx((10 + 20 + 30 + 99) / 4)
    assert overlap.spread("AP").mean == pytest.approx(24.0)
    found = gain(overlap, groups.values())
    assert found is not None
    assert found.control is control
    assert found.seeds == (0, 1, 2)
    assert found.spreads["AP"].mean == pytest.approx(4.0)  # of 2, 3, 7
    assert found.spreads["AP"].std == pytest.approx(7**0.5)
    assert found.spreads["overlap degree"].mean == 0
    assert gain(control, groups.values()) is None


def test_the_control_of_a_teacher_has_the_same_lambda(tmp_path: Path) -> None:
    write_run(tmp_path, "x_finetune", 0, ap=10.0)
    write_run(tmp_path, "x_finetune_overlap", 0, ap=12.0, weight=2.0, teacher=0.0)
    write_run(tmp_path, "x_finetune_teacher", 0, ap=17.0, weight=2.0, teacher=1.0)
    write_run(tmp_path, "x_alone", 0, ap=14.0, teacher=1.0, init_from=f"{tmp_path}/x_pretrain/seed0/checkpoints/last.ckpt")
    groups = grouped(find_runs([tmp_path])[0])
    gains = {group.first.name: found for group in groups if (found := gain(group, groups)) is not None}
    assert [group.first.name for group in groups] == ["x_finetune", "x_finetune_overlap", "x_alone", "x_finetune_teacher"]
    found = {name: (each.control.first.name, each.spreads["AP"].mean) for name, each in gains.items()}
    assert found == {
        "x_finetune_overlap": ("x_finetune", 2.0),
        "x_finetune_teacher": ("x_finetune_overlap", 5.0),
        "x_alone": ("x_finetune", 4.0),
    }


def test_no_common_seed_compares_means(tmp_path: Path) -> None:
    write_run(tmp_path, "x_finetune", 0, ap=10.0)
    write_run(tmp_path, "x_finetune_overlap", 1, ap=14.0, weight=2.0)
    groups = groups_of(tmp_path)
    found = gain(groups["x_finetune_overlap 2"], groups.values())
    assert found is not None
    assert found.seeds == ()
    assert found.spreads["AP"] == Spread(4.0, std=None, n=0)


@pytest.mark.parametrize(
    "other",
    [
        {"steps": 1500},
        {"init_from": "runs/another_pretrain/seed0/checkpoints/last.ckpt"},
        {"init_from": None},
        {"num_images": 20},
        {"area": "mask"},
        {"data": {"test_size": 680}},
        {"weight": 1.0},
    ],
    ids=str,
)
def test_incomparable_runs_are_not_controls(tmp_path: Path, other: dict[str, object]) -> None:
    write_run(tmp_path, "x_finetune", 0, **other)  # type: ignore[arg-type]
    write_run(tmp_path, "x_finetune_overlap", 0, weight=2.0)
    groups = groups_of(tmp_path)
    assert gain(groups["x_finetune_overlap 2"], groups.values()) is None


def test_retention_is_paired_by_seed_and_of_one_protocol(tmp_path: Path) -> None:
    for seed, boxes, masks in ((0, 10.0, 40.0), (1, 30.0, 40.0), (2, 50.0, None)):
        write_run(tmp_path, "x_pretrain", seed, ap=boxes)
        if masks:
            write_run(tmp_path, "x_mask", seed, ap=masks, supervision="mask")
    scored = write_evaluation(
        tmp_path / "x_pretrain" / "seed0", "cut", ap=9.0, eval={"area": "published", "score_threshold": 0.05, "cut_to_box": True}
    )
    write_run(tmp_path, "x_ov2", 0, weight=2.0, init_from=None)
    groups = grouped(find_runs([tmp_path, scored])[0])
    by_name = {group.first.name + group.first.protocol.masks: group for group in groups}
    masks, boxes, cut, overlap = (by_name[name] for name in ("x_mask", "x_pretrain", "x_pretraincut to their boxes", "x_ov2"))
    found = retention(boxes, groups)
    assert found is not None
    assert (found.control, found.seeds) == (masks, (0, 1))
    assert found.spreads["AP"] == Spread(0.5, pytest.approx(0.3535534), 2)
    assert retention(masks, groups) is retention(cut, groups) is None
    control = gain(overlap, groups)
    assert control is not None
    assert control.control is boxes, "training from masks is no control of OverlapLoss"


def test_control_with_more_common_seeds_is_used(tmp_path: Path) -> None:
    base = f"{tmp_path}/x_pretrain/seed0/checkpoints/last.ckpt"
    write_run(tmp_path, "x_ov0", 0, init_from=base)
    for seed in (0, 1):
        write_run(tmp_path, "x_finetune", seed)
        write_run(tmp_path, "x_finetune_overlap", seed, weight=2.0)
    groups = groups_of(tmp_path)
    found = gain(groups["x_finetune_overlap 2"], groups.values())
    assert found is not None
    assert found.control.first.name == "x_finetune"


def test_one_name_with_two_settings_is_two_groups(tmp_path: Path) -> None:
    for weight, folder in ((1.0, "one"), (2.0, "two")):
        write_run(tmp_path / folder, "x", 0, weight=weight)
    assert set(groups_of(tmp_path / "one", tmp_path / "two")) == {"x 1", "x 2"}


def test_order_of_a_table(tmp_path: Path) -> None:
    base = f"{tmp_path}/b_pretrain/seed0/checkpoints/last.ckpt"
    for name, weight in (("b_ov4", 4.0), ("b_finetune_overlap", 2.0), ("b_ov0.5", 0.5)):
        write_run(tmp_path, name, 0, weight=weight, init_from=base)
    write_run(tmp_path, "b_masks", 0, weight=0.1, reduction="masks", init_from=base)
    for name in ("b_finetune", "b_pretrain", "a_finetune"):
        write_run(tmp_path, name, 0)
    order = [group.first.name for group in grouped(find_runs([tmp_path])[0])]
    assert order == ["a_finetune", "b_pretrain", "b_finetune", "b_masks", "b_ov0.5", "b_finetune_overlap", "b_ov4"]


def test_duplicate_seed_is_rejected(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_run(tmp_path / folder, "x", 3)
    with pytest.raises(DataError, match="two results for seed 3 of x"):
        grouped(find_runs([tmp_path / "one", tmp_path / "two"])[0])


def test_protocols_are_not_mixed(tmp_path: Path) -> None:
    run = write_run(tmp_path, "x", 0)
    write_run(tmp_path, "y", 0)
    scored = write_evaluation(run, "cis_680", ap=30.0, test_size=680)
    groups = grouped(find_runs([tmp_path, scored])[0])
    assert sorted((g.first.name, g.first.protocol.test_size, len(g.runs)) for g in groups) == [("x", 480, 1), ("x", 680, 1), ("y", 480, 1)]
    (sentence,) = mixed_protocols(groups)
    assert sentence.startswith("x was evaluated in 2 ways")
    assert str(scored) in sentence
