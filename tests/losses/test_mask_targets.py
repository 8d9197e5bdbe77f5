"""Mixed supervision: which losses each instance has, the terms against loops, and its limits: only masks, no mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import oracles
from cis_seg.config.loss_schema import MixedConfig, PairwiseConfig
from cis_seg.losses.criterion import Criterion
from cis_seg.losses.mask_targets import MaskTargets, mask_targets
from cis_seg.ops.color import color_similarity, pooled_colors, valid_mask
from cis_seg.ops.masks import box_masks
from cis_seg.structures import Batch, MaskSamples, PseudoMasks
from tiny_model import ORIGINALS, PADDED, SIZES, tiny_batch

BOXES: tuple[list[list[float]], list[list[float]]] = ([[8.0, 8, 50, 60], [40, 10, 90, 50]], [[5.0, 4, 44, 40], [20, 6, 60, 44]])
#: of the first image: a true mask and a noisy one; of the second: a doubtful mask and none
SCORES = ([1.0, 0.8], [0.3, 0.0])
#: instances 0, 1, 1 of the first image and 0, 1 of the second
SAMPLES = MaskSamples(torch.tensor([0, 0, 0, 1, 1]), torch.zeros(5, dtype=torch.int64), torch.tensor([0, 1, 1, 0, 1]), (3, 2), (2, 2))
TERMS = {"mask": 1.0, "proj": 1.0, "pairwise": 1.0, "overlap": 2.0}


def scored(batch: Batch, *scores: list[float]) -> Batch:
    """``batch`` with scores of its masks, and no mask where the score is 0."""
    targets = []
    for target, own in zip(batch.targets, map(torch.tensor, scores), strict=True):
        assert target.masks is not None
        targets.append(replace(target, masks=target.masks & (own > 0)[:, None, None], mask_scores=own))
    return replace(batch, targets=tuple(targets))


def batch_of(*scores: list[float]) -> Batch:
    return scored(tiny_batch(*BOXES, with_masks=True), *scores)


def boxes_of_samples() -> Tensor:
    return torch.tensor(BOXES)[SAMPLES.im_inds, SAMPLES.gt_inds]


def targets_of(batch: Batch, **options: Any) -> MaskTargets:
    inside = box_masks(boxes_of_samples(), (PADDED[0] // 4, PADDED[1] // 4), 4)
    return mask_targets(SAMPLES, batch, inside, 4, **vars(MixedConfig(**options)))


def logits(seed: int = 0) -> Tensor:
    return (2 * torch.randn(5, 16, 24, generator=torch.Generator().manual_seed(seed))).requires_grad_()


def losses(batch: Batch, weights: dict[str, float], mask_logits: Tensor, **options: Any) -> dict[str, Tensor]:
    criterion = Criterion(weights, pairwise=PairwiseConfig(color_thresh=0.2), mixed=MixedConfig(**options))
    return criterion.mask_losses(SAMPLES, mask_logits, batch, step=10_000)


@pytest.mark.parametrize(
    ("options", "weights", "boxed"),
    [
        ({}, [1, 0.8, 0.8, 0, 0], [False, True, True, True, True]),
        ({"box_losses": "unmasked"}, [1, 0.8, 0.8, 0, 0], [False, False, False, True, True]),
        ({"box_losses": "all"}, [1, 0.8, 0.8, 0, 0], [True] * 5),
        ({"least_score": 0.3}, [1, 0.8, 0.8, 0.3, 0], [False, True, True, True, True]),
        ({"least_score": 0.0, "box_losses": "unmasked"}, [1, 0.8, 0.8, 0.3, 0], [False, False, False, False, True]),
        ({"least_score": 1.0}, [1, 0, 0, 0, 0], [False, True, True, True, True]),
    ],
)
def test_losses_of_each_instance(options: dict[str, Any], weights: list[float], boxed: list[bool]) -> None:
    found = targets_of(batch_of(*SCORES), **options)
    assert found.weights.tolist() == pytest.approx(weights)
    assert found.boxed.tolist() == boxed


def test_noisy_masks_are_cut_to_their_box_and_true_ones_are_not() -> None:
    batch = batch_of(*SCORES)
    cut, whole = targets_of(batch, least_score=0.0), targets_of(batch, least_score=0.0, cut_to_box=False)
    assert cut.masks is not None
    assert whole.masks is not None
    noisy = torch.tensor([False, True, True, True, False])
    assert torch.equal(cut.masks, whole.masks & (cut.inside | ~noisy[:, None, None]))
    assert (cut.masks != whole.masks).flatten(1).any(dim=1).tolist() == noisy.tolist()


def test_without_scores_the_supervision_is_of_one_kind() -> None:
    masks, boxes = targets_of(tiny_batch(*BOXES, with_masks=True)), targets_of(tiny_batch(*BOXES))
    assert masks.weights.tolist() == [1] * 5
    assert boxes.weights.tolist() == [0] * 5
    assert boxes.masks is None
    assert masks.boxed.all()
    assert boxes.boxed.all()


def test_terms_equal_loops() -> None:
    """Dice over the samples with a mask, the box terms over the others and over the noisy ones."""
    batch, mask_logits = batch_of(*SCORES), logits()
    found = losses(batch, TERMS, mask_logits)
    scores = mask_logits.sigmoid().tolist()
    targets = targets_of(batch)
    assert targets.masks is not None
    flat = [[[x for row in mask for x in row] for mask in masks] for masks in (scores, targets.masks.double().tolist())]
    dice = [oracles.dice(flat[0][n], flat[1][n]) for n in range(3)]
    drawn = [oracles.sample(oracles.draw_box(tuple(box), *PADDED), 4) for box in boxes_of_samples().tolist()]
    boxed = [1, 2, 3, 4]
    similarity = color_similarity(pooled_colors(batch.pixels, 4), valid_mask(SIZES, ORIGINALS, PADDED, 4, "cpu", bottom_margin=10))
    rows = [mask_logits.tolist()[n] for n in boxed]
    assert found["loss_mask"].item() == pytest.approx((dice[0] + 0.8 * dice[1] + 0.8 * dice[2]) / 3, rel=1e-5)
    assert found["loss_proj"].item() == pytest.approx(oracles.projection([scores[n] for n in boxed], [drawn[n] for n in boxed]), rel=1e-5)
    expected = oracles.pairwise(rows, [drawn[n] for n in boxed], similarity.tolist(), [0, 0, 1, 1], 3, 2, 0.2)
    assert found["loss_pairwise"].item() == pytest.approx(expected, rel=1e-4)
    assert found["loss_overlap"].item() == losses(tiny_batch(*BOXES), {"overlap": 2.0}, mask_logits)["loss_overlap"].item()


@pytest.mark.parametrize(
    ("scores", "supervision"),
    [(([1.0, 1.0], [1.0, 1.0]), {"mask": 1.0, "overlap": 2.0}), (([0.0, 0.0], [0.0, 0.0]), {"proj": 1.0, "pairwise": 1.0, "overlap": 2.0})],
    ids=["only masks", "no mask"],
)
def test_limits_equal_the_other_supervisions_bit_for_bit(scores: tuple[list[float], list[float]], supervision: dict[str, float]) -> None:
    mixed, plain = logits(), logits()
    ours = losses(batch_of(*scores), TERMS, mixed)
    theirs = losses(tiny_batch(*BOXES, with_masks="mask" in supervision), supervision, plain)
    for name, loss in ours.items():
        assert loss.item() == (theirs[name].item() if name in theirs else 0.0)
    for found in (ours, theirs):
        torch.stack([loss for name, loss in found.items() if name.startswith("loss_")]).sum().backward()
    assert mixed.grad is not None
    assert plain.grad is not None
    assert torch.equal(mixed.grad, plain.grad)


def test_gradients_reach_only_the_losses_of_an_instance() -> None:
    for term, learning in {"mask": [True, True, True, False, False], "proj": [False, True, True, True, True]}.items():
        mask_logits = logits()
        losses(batch_of(*SCORES), {term: 1.0}, mask_logits)[f"loss_{term}"].backward()
        assert mask_logits.grad is not None
        assert mask_logits.grad.flatten(1).any(dim=1).tolist() == learning, term


def test_the_teacher_trains_the_instances_of_the_box_losses() -> None:
    pseudo = PseudoMasks(torch.rand(4, 16, 24), torch.ones(4, 16, 24).bool(), torch.tensor([0.9, 0.8, 0.7, 0.6]), (0, 2))
    criterion, mask_logits = Criterion({"mask": 1.0, "teacher": 1.0}, mixed=MixedConfig()), logits()
    loss = criterion.mask_losses(SAMPLES, mask_logits, batch_of(*SCORES), step=10_000, pseudo=pseudo)["loss_teacher"]
    loss.backward()
    assert mask_logits.grad is not None
    assert mask_logits.grad.flatten(1).any(dim=1).tolist() == [False, True, True, True, True]
    quality = pseudo.quality[pseudo.rows(SAMPLES)].tolist()
    flat = [x.flatten(1).tolist() for x in (mask_logits.sigmoid(), pseudo.masks[pseudo.rows(SAMPLES)])]
    assert loss.item() == pytest.approx(oracles.teacher(*flat, [[True] * 384] * 5, [0.0, *quality[1:]]), rel=1e-5)
