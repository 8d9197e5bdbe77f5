"""Criterion: every term against loops, the reference's numbers, weights, warm-up, nothing to learn, true masks, precision."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import oracles
from cis_seg.assign import assign, select_mask_samples
from cis_seg.config.loss_schema import OverlapConfig, PairwiseConfig
from cis_seg.losses.criterion import Criterion
from cis_seg.ops.color import color_similarity, pooled_colors, valid_mask
from cis_seg.runtime.collectives import mean_over_processes
from cis_seg.structures import Assignment, Batch, DensePredictions, MaskSamples, Target
from golden_arrays import isolated_arrays
from tiny_model import ORIGINALS, PADDED, SIZES, tiny_batch, tiny_model

ALL = {"cls": 1.0, "box": 1.0, "ctr": 1.0, "mask": 1.0, "proj": 1.0, "pairwise": 1.0}
BOXES: tuple[list[list[float]], ...] = ([[8.0, 8, 50, 60], [40, 10, 90, 50]], [[5.0, 4, 44, 40]])


def _predictions(batch: Batch, *, num_classes: int = 2) -> tuple[DensePredictions, Assignment, MaskSamples, Tensor]:
    """What training hands to the criterion: the tiny network's outputs, gradients connected."""
    model = tiny_model(num_classes)
    dense = model(model.normalize(batch.pixels, batch.image_sizes))
    assignment = assign(dense.locations, batch.targets, num_classes=num_classes, padded_size=PADDED)
    samples = select_mask_samples(assignment, dense.ctr_logits.detach().sigmoid(), per_image=4)
    return dense, assignment, samples, model.mask_logits(dense, samples)


def _mask_samples(*gt_inds: list[int]) -> MaskSamples:
    images = torch.tensor([image for image, rows in enumerate(gt_inds) for _ in rows], dtype=torch.int64)
    flat = torch.tensor([index for rows in gt_inds for index in rows], dtype=torch.int64)
    return MaskSamples(images, torch.zeros_like(flat), flat, tuple(map(len, gt_inds)), tuple(len(set(rows)) for rows in gt_inds))


# ---------------------------------------------------------------- detection
def test_detection_terms_equal_loops() -> None:
    batch = tiny_batch(*BOXES)
    dense, assignment, _, _ = _predictions(batch)
    generator = torch.Generator().manual_seed(0)
    random = {name: torch.randn(getattr(dense, name).shape, generator=generator) for name in ("cls_logits", "ltrb", "ctr_logits")}
    dense = replace(dense, **random | {"ltrb": random["ltrb"].abs() * 3})
    losses = Criterion(ALL).detection_losses(dense, assignment)
    positives = [tuple(row) for row in (assignment.gt_inds >= 0).nonzero().tolist()]
    assert {image for image, _ in positives} == {0, 1}
    num_pos = len(positives)
    cls = oracles.focal(dense.cls_logits.tolist(), assignment.labels.tolist(), num_pos)
    box = ctr = weights = 0.0
    for at in positives:
        wanted = assignment.ltrb[at].tolist()
        quality = oracles.centerness(*wanted)
        box += quality * (1 - oracles.iou_and_giou(tuple(dense.ltrb[at].tolist()), tuple(wanted))[1])
        ctr += oracles.binary_cross_entropy(dense.ctr_logits[at].item(), quality)
        weights += quality
    expected = {"loss_cls": cls, "loss_box": box / weights, "loss_ctr": ctr / num_pos}
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(expected, rel=1e-4)


def test_normalisers_are_means_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process with 9 positives more and 3 centerness more: every process divides by the mean of both."""
    batch = tiny_batch(*BOXES)
    dense, assignment, _, _ = _predictions(batch)
    alone = Criterion(ALL).detection_losses(dense, assignment)
    num_pos, sum_ctr = (assignment.gt_inds >= 0).sum().item(), assignment.centerness.sum().item()
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda values: values.mul_(2).add_(torch.tensor([9.0, 3.0])))
    together = Criterion(ALL).detection_losses(dense, assignment)
    ratios = {"loss_cls": num_pos / (num_pos + 4.5), "loss_box": sum_ctr / (sum_ctr + 1.5), "loss_ctr": num_pos / (num_pos + 4.5)}
    assert {name: (together[name] / alone[name]).item() for name in alone} == pytest.approx(ratios)
    values = torch.tensor([1.0, 2.0])
    assert mean_over_processes(values).tolist() == [5.5, 3.5]
    assert values.tolist() == [1, 2], "not changed in place"


# ---------------------------------------------------------------- masks
def test_box_terms_equal_loops() -> None:
    batch = tiny_batch(*BOXES)
    samples = _mask_samples([0, 1, 1], [0])
    logits = 2 * torch.randn(4, 16, 24, generator=torch.Generator().manual_seed(0))
    criterion = Criterion({"proj": 1.0, "pairwise": 1.0}, pairwise=PairwiseConfig(bottom_margin=40, color_thresh=0.2))
    losses = criterion.mask_losses(samples, logits, batch, step=10_000)
    drawn = [oracles.sample(oracles.draw_box((x0, y0, x1, y1), *PADDED), 4) for x0, y0, x1, y1 in (*BOXES[0], BOXES[0][1], *BOXES[1])]
    valid = valid_mask(SIZES, ORIGINALS, PADDED, 4, "cpu", bottom_margin=40)
    similarity = color_similarity(pooled_colors(batch.pixels, 4), valid)
    expected = {
        "loss_proj": oracles.projection(logits.sigmoid().tolist(), drawn),
        "loss_pairwise": oracles.pairwise(logits.tolist(), drawn, similarity.tolist(), [0, 0, 0, 1], 3, 2, 0.2),
    }
    assert expected["loss_pairwise"] > 0.1
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(expected, rel=1e-4)


def test_golden(golden: Path) -> None:
    rgb, boxes, logits, expected = isolated_arrays(golden, "col0_rgb", "col0_boxes", "thr_logits", "thr_loss")
    target = Target(boxes, torch.zeros(5, dtype=torch.int64))
    batch = Batch(rgb[None], rgb[None], (PADDED,), (PADDED,), (0,), (0,), (target,))
    criterion = Criterion({"proj": 1.0, "pairwise": 1.0})
    losses = criterion.mask_losses(_mask_samples([0, 1, 2, 3, 4]), logits[:, 0], batch, step=10_000)
    assert losses["loss_pairwise"].item() == pytest.approx(expected.item(), rel=1e-5)
    content = json.loads((golden / "isolated.json").read_text())
    assert losses["loss_proj"].item() == pytest.approx(content["thr_prj_loss"], rel=1e-5)
    early = criterion.mask_losses(_mask_samples([0, 1, 2, 3, 4]), logits[:, 0], batch, step=1)
    assert early["loss_pairwise"].item() == pytest.approx(expected.item() / 10_000, rel=1e-5)


def test_pairwise_options_and_colours_reach_the_loss() -> None:
    batch, samples = tiny_batch(*BOXES), _mask_samples([0], [0])
    logits = 2 * torch.randn(2, 16, 24, generator=torch.Generator().manual_seed(0))

    def loss(batch: Batch, step: int = 10_000, **options: Any) -> float:
        criterion = Criterion({"pairwise": 1.0}, pairwise=PairwiseConfig(**{"color_thresh": 0.2, **options}))
        return criterion.mask_losses(samples, logits, batch, step=step)["loss_pairwise"].item()

    plain = loss(batch)
    assert loss(batch, step=1) == pytest.approx(plain / 10_000)
    assert loss(batch, step=2_500) == pytest.approx(plain / 4)
    assert loss(batch, step=20_000) == plain
    assert loss(batch, step=1, warmup_steps=0) == plain
    changed = {
        "threshold": loss(batch, color_thresh=0.5),
        "dilation": loss(batch, dilation=1),
        "size": loss(batch, size=5),
        "margin": loss(batch, bottom_margin=60),
        "truncation": loss(batch, truncate_colors=False),
        "clean pixels": loss(replace(batch, clean_pixels=255 - batch.pixels)),
        "original size": loss(replace(batch, original_sizes=((16, 24), (16, 24)))),
        "image size": loss(replace(batch, image_sizes=((40, 40), (30, 30)))),
    }
    assert {name for name, value in changed.items() if value == plain} == set()
    assert loss(replace(batch, pixels=255 - batch.pixels)) == plain, "augmented pixels are not compared"


def test_ground_truth_masks_hand_computed() -> None:
    """Two people in the smaller image: a rectangle of full-size pixels, and everything."""
    first = torch.zeros(2, 50, 70, dtype=torch.bool)
    first[0, 8:24, 12:20] = True  # rows 2..5 and columns 3..4 of the mask grid: 8 cells
    first[1] = True  # 12 rows (2, 6, .. 46) and 17 columns (2, 6, .. 66): 204 cells
    none = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 64, 96, dtype=torch.bool))
    target = Target(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), first)
    batch = replace(tiny_batch(), targets=(none, target))
    criterion = Criterion({"mask": 1.0})
    right = torch.full((2, 16, 24), -99.0)
    right[1, 2:6, 3:5] = 99
    right[0, :12, :17] = 99
    losses = criterion.mask_losses(_mask_samples([], [1, 0]), right, batch, step=1)
    assert losses.keys() == {"loss_mask"}
    assert losses["loss_mask"].item() == pytest.approx(0, abs=1e-5)
    wrong = criterion.mask_losses(_mask_samples([], [0, 1]), right, batch, step=1)["loss_mask"]
    assert wrong.item() == pytest.approx(1 - 2 * 8 / (8 + 204), abs=1e-5), "each is compared with the other's mask"
    both = replace(batch, targets=(replace(none, boxes=torch.zeros(1, 4), masks=torch.ones(1, 64, 96, dtype=torch.bool)), target))
    three = torch.cat([torch.full((1, 16, 24), 99.0), right])
    assert criterion.mask_losses(_mask_samples([0], [1, 0]), three, both, step=1)["loss_mask"].item() == pytest.approx(0, abs=1e-5)
    half = criterion.mask_losses(_mask_samples([], [0]), torch.zeros(1, 16, 24), batch, step=1)["loss_mask"]
    assert half.item() == pytest.approx(1 - 2 * 4 / (0.25 * 16 * 24 + 8), abs=1e-5)


# ---------------------------------------------------------------- weights, nothing, precision
@pytest.mark.parametrize("name", ALL)
def test_weight_zero_removes_a_term(name: str) -> None:
    batch = tiny_batch(*BOXES, with_masks=True)
    inputs = _predictions(batch)
    losses = Criterion(ALL)(*inputs, batch, step=5_000)
    assert losses.keys() == {f"loss_{term}" for term in ALL}
    fewer = Criterion(ALL | {name: 0.0})(*inputs, batch, step=5_000)
    assert fewer == {term: value for term, value in losses.items() if term != f"loss_{name}"}
    assert all(value.dim() == 0 and value > 0 for value in losses.values())
    assert Criterion(ALL | {name: 3.0})(*inputs, batch, step=5_000) == losses, "terms are raw: the weight is applied outside"


def test_no_masks_needed_without_ground_truth_masks() -> None:
    batch = tiny_batch(*BOXES)
    criterion = Criterion(ALL | {"mask": 0.0})
    assert "loss_mask" not in criterion(*_predictions(batch), batch, step=1)
    with pytest.raises(AssertionError, match="supervision=mask"):
        Criterion(ALL)(*_predictions(batch), batch, step=1)


def test_loss_without_targets_is_zero_and_reaches_every_parameter() -> None:
    """As in the reference: without a positive every term but the class loss is 0; here also without a box, where the reference crashes."""
    batch = tiny_batch(with_masks=True)
    model = tiny_model()
    dense = model(model.normalize(batch.pixels, SIZES))
    assignment = assign(dense.locations, batch.targets, num_classes=2, padded_size=PADDED)
    samples = select_mask_samples(assignment, dense.ctr_logits.detach())
    losses = Criterion(ALL)(dense, assignment, samples, model.mask_logits(dense, samples), batch, step=10_000)
    assert losses.keys() == {f"loss_{term}" for term in ALL}
    labels = torch.full_like(assignment.labels, 2)
    assert losses["loss_cls"].item() == pytest.approx(oracles.focal(dense.cls_logits.tolist(), labels.tolist(), 1), rel=1e-4)
    assert {name: value.item() for name, value in losses.items() if name != "loss_cls"} == dict.fromkeys(losses.keys() - {"loss_cls"}, 0.0)
    torch.stack(list(losses.values())).sum().backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    assert [name for name, grad in grads.items() if grad is None] == [], "a process without people must not leave the others waiting"
    assert all(grad is not None and grad.isfinite().all() for grad in grads.values())
    learning = {name for name, grad in grads.items() if grad is not None and grad.any()}
    assert "head.cls_logits.weight" in learning
    assert not {name for name in learning if name.startswith(("mask_branch", "head.box", "head.centerness", "head.controller"))}


def test_golden_without_positives(golden: Path) -> None:
    """The reference's class loss there is of its own network; what is comparable is which terms are zero."""
    theirs = json.loads((golden / "solver_and_edge.json").read_text())["no_positive_losses"]
    names = {"loss_fcos_cls": "cls", "loss_fcos_loc": "box", "loss_fcos_ctr": "ctr", "loss_prj": "proj", "loss_pairwise": "pairwise"}
    batch = tiny_batch([[1.0, 1, 2, 2]], [])  # a box between the locations, and none
    inputs = _predictions(batch)
    assert not (inputs[1].gt_inds >= 0).any()
    ours = Criterion(ALL | {"mask": 0.0})(*inputs, batch, step=10_000)
    assert {name: value == 0 for name, value in theirs.items()} == {name: ours[f"loss_{key}"].item() == 0 for name, key in names.items()}


def test_one_image_without_people() -> None:
    batch = tiny_batch(BOXES[0], [], with_masks=True)
    dense, assignment, samples, mask_logits = _predictions(batch)
    assert samples.counts[1] == 0
    losses = Criterion(ALL)(dense, assignment, samples, mask_logits, batch, step=1)
    assert all(value.isfinite() and value > 0 for value in losses.values())


def test_bfloat16() -> None:
    batch = tiny_batch(*BOXES, with_masks=True)
    exact = Criterion(ALL)(*_predictions(batch), batch, step=10_000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inputs = _predictions(batch)
        losses = Criterion(ALL)(*inputs, batch, step=10_000)
    assert inputs[0].cls_logits.dtype == torch.bfloat16
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    assert {name: value.item() for name, value in losses.items()} == pytest.approx({n: v.item() for n, v in exact.items()}, rel=0.1)
    torch.stack(list(losses.values())).sum().backward()


# ---------------------------------------------------------------- OverlapLoss
def _overlap(batch: Batch, samples: MaskSamples, logits: Tensor, seed: int = 0, **options: Any) -> dict[str, Tensor]:
    return Criterion({"overlap": 2.0}, overlap=OverlapConfig(**options), seed=seed).mask_losses(samples, logits, batch, step=1)


def test_overlap_term_and_its_statistics() -> None:
    batch, samples = tiny_batch(*BOXES), _mask_samples([0, 1, 1], [0])
    logits = torch.randn(4, 16, 24, generator=torch.Generator().manual_seed(0))
    found = _overlap(batch, samples, logits)
    assert found.keys() == {"loss_overlap", "overlap_degree", "overlap_pairs", "overlap_shared"}
    scores = logits.sigmoid().tolist()
    expected = {
        oracles.overlap(scores, [0, 0, 0, 1], [0, 1, 1, 0], {0, drawn, 3}, "pairs"): oracles.overlap(
            scores, [0, 0, 0, 1], [0, 1, 1, 0], {0, drawn, 3}, "masks"
        )
        for drawn in (1, 2)
    }
    value = min(expected, key=lambda each: abs(each - found["loss_overlap"].item()))
    assert found["loss_overlap"].item() == pytest.approx(value, abs=1e-6), "raw: the weight is applied outside"
    assert _overlap(batch, samples, logits, reduction="masks")["loss_overlap"].item() == pytest.approx(expected[value], abs=1e-6)
    assert found["overlap_pairs"].item() == 3
    assert found["overlap_degree"].item() == pytest.approx(value, abs=1e-6), "the two boxes of the first image touch"
    assert "loss_overlap" not in Criterion({"proj": 1.0, "overlap": 0.0}).mask_losses(samples, logits, batch, step=1)


def test_selection_depends_on_seed_and_stream_position() -> None:
    """The same in one process and in two, whatever stands beside an image in the batch."""
    masks, people = 24, [0] * 12 + [1] * 12
    logits = torch.randn(2 * masks, 16, 24, generator=torch.Generator().manual_seed(0))
    batch = replace(tiny_batch(BOXES[0], BOXES[0]), positions=(40, 41))

    def loss(positions: tuple[int, ...], part: slice, seed: int = 0) -> float:
        images = range(2)[part]
        own = replace(batch, positions=positions, targets=batch.targets[part], image_ids=batch.image_ids[part])
        chosen = logits[images.start * masks : images.stop * masks]
        return _overlap(own, _mask_samples(*[people for _ in images]), chosen, seed=seed)["loss_overlap"].item()

    both = loss((40, 41), slice(0, 2))
    assert both == loss((40, 41), slice(0, 2))
    assert both == pytest.approx((loss((40,), slice(0, 1)) + loss((41,), slice(1, 2))) / 2, rel=1e-6)
    assert both != loss((42, 43), slice(0, 2))
    assert both != loss((40, 41), slice(0, 2), seed=1)


def test_overlap_divides_by_the_mean_number_of_images_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, samples = tiny_batch(*BOXES), _mask_samples([0, 1], [0])
    logits = torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(0))
    alone = _overlap(batch, samples, logits)["loss_overlap"].item()
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(
        dist, "all_reduce", lambda values: values.add_(2.0)
    )  # the other process has two images with pairs, this one has one
    assert _overlap(batch, samples, logits)["loss_overlap"].item() == pytest.approx(alone / 1.5)
