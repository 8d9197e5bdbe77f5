"""The mean field over colours: against a loop, numbers computed by hand, and what must not change its result."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import oracles
from cis_seg.ops import masks as module
from cis_seg.ops.masks import Windows, windows_around
from cis_seg.ops.mean_field import mean_field

SETTINGS: dict[str, Any] = {"sigma": 6.0, "dilations": (1, 2), "unary": 0.3, "strength": 4.0, "iterations": 5}


def _case(n: int = 5, b: int = 2, h: int = 7, w: int = 6, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random scores, Lab colours near each other, boxes and images, in float64."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.rand(n, h, w, generator=rng, dtype=torch.float64) * 0.98 + 0.01
    colors = 50 + 8 * torch.rand(b, 3, h, w, generator=rng, dtype=torch.float64)
    boxes = torch.zeros(n, h, w, dtype=torch.bool)
    for i in range(n):
        boxes[i, i % 3 : h - i % 2, i % 2 : w - (i + 1) % 3] = True
    return scores, colors, boxes, torch.randint(0, b, (n,), generator=rng)


@pytest.mark.parametrize("dilations", [(1,), (1, 2), (3,), (8, 1)])
def test_equals_the_loop(dilations: tuple[int, ...]) -> None:
    scores, colors, boxes, im_inds = _case()
    settings: dict[str, Any] = SETTINGS | {"dilations": dilations}
    expected = [
        oracles.mean_field(p.tolist(), colors[i].tolist(), box.double().tolist(), **settings)
        for p, box, i in zip(scores, boxes, im_inds, strict=True)
    ]
    refined = mean_field(scores, colors, boxes, im_inds, **settings)
    torch.testing.assert_close(refined, torch.tensor(expected, dtype=torch.float64))
    assert not torch.allclose(refined, scores * boxes, atol=0.1)


@pytest.mark.parametrize("rounds", [1, 3])
def test_evidence_equals_the_loop(rounds: int) -> None:
    """Evidence that depends on the scores of the round before and on the place of the window."""
    scores, colors, boxes, im_inds = _case()
    places = torch.rand(5, 7, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def evidence(found: Tensor, windows: Windows) -> Tensor:
        assert not found[~windows.cut(boxes, windows.chosen)].any()
        return windows.cut(places, windows.chosen) * (4 * found - 2)

    expected = []
    for p, place, box, i in zip(scores, places, boxes, im_inds, strict=True):
        found = p * box
        for _ in range(rounds):
            field = (place * (4 * found - 2)).tolist()
            lists = p.tolist(), colors[i].tolist(), box.double().tolist()
            found = torch.tensor(oracles.mean_field(*lists, evidence=field, **SETTINGS), dtype=torch.float64)
        expected.append(found)
    refined = mean_field(scores, colors, boxes, im_inds, evidence=evidence, rounds=rounds, **SETTINGS)
    torch.testing.assert_close(refined, torch.stack(expected))
    assert not torch.allclose(refined, mean_field(scores, colors, boxes, im_inds, **SETTINGS), atol=0.1)


def test_numbers_by_hand() -> None:
    """One colour, 1 in the middle of 3 x 3: a corner has 3 neighbours and the vote -1/3, a side 5 and -3/5, the middle 8 and -1."""
    scores = torch.zeros(1, 3, 3)
    scores[0, 1, 1] = 1
    by_vote: dict[str, Any] = {"dilations": (1,), "unary": 0.0, "strength": 1.0, "iterations": 1}
    everywhere = torch.ones(1, 3, 3)
    refined = mean_field(scores, torch.full((1, 3, 3, 3), 40.0), everywhere, torch.tensor([0]), **by_vote)
    corner, side, middle = 0.41743, 0.35434, 0.26894
    torch.testing.assert_close(
        refined[0], torch.tensor([[corner, side, corner], [side, middle, side], [corner, side, corner]]), atol=1e-5, rtol=0
    )
    # the middle column's colour is sigma x sqrt(2 ln 2) away, so its weights halve: the left corner's vote is (1 - 1/2 + 1/2) / 2
    colors = torch.zeros(1, 3, 3, 3)
    colors[:, 0, :, 1] = 5 * math.sqrt(2 * math.log(2))
    refined = mean_field(torch.tensor([[[1.0, 0, 0], [1, 1, 0], [0, 0, 0]]]), colors, everywhere, torch.tensor([0]), sigma=5.0, **by_vote)
    assert refined[0, 0, 0].item() == pytest.approx(1 / (1 + math.exp(-0.5)))


def test_mask_stops_at_a_colour_edge() -> None:
    """A mask that leaks one column over an edge, and misses one before it in half of its rows, follows the edge."""
    colors = torch.zeros(1, 3, 12, 12)
    colors[..., 6:] = 60
    scores = torch.full((1, 12, 12), 0.1)
    scores[..., :7] = 0.8
    scores[:, ::2, 5] = 0.3
    refined = mean_field(scores, colors, torch.ones(1, 12, 12), torch.tensor([0]))
    assert ((refined > 0.5) == (torch.arange(12) < 6)).all()


def test_uniform_colour_and_confident_mask_are_unchanged() -> None:
    colors = torch.full((1, 3, 8, 8), 30.0)
    box = torch.ones(1, 8, 8)
    for score in (0.9, 0.1):
        refined = mean_field(torch.full((1, 8, 8), score), colors, box, torch.tensor([0]))
        assert ((refined > 0.5) == (score > 0.5)).all()
    even = mean_field(torch.full((1, 8, 8), 0.5), colors, box, torch.tensor([0]))
    torch.testing.assert_close(even, torch.full((1, 8, 8), 0.5))


def test_result_is_independent_of_order_chunks_and_other_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, colors, boxes, im_inds = _case()
    refined = mean_field(scores, colors, boxes, im_inds, **SETTINGS)
    order = torch.tensor([3, 0, 4, 1, 2])
    # not equal to the last bit: sigmoid's vector code differs from that for the rest of an array
    torch.testing.assert_close(mean_field(scores[order], colors, boxes[order], im_inds[order], **SETTINGS), refined[order])
    torch.testing.assert_close(mean_field(scores[2:3], colors, boxes[2:3], im_inds[2:3], **SETTINGS), refined[2:3])
    monkeypatch.setattr(module, "MASKS_AT_ONCE", 2)
    torch.testing.assert_close(mean_field(scores, colors, boxes, im_inds, **SETTINGS), refined)


def test_masks_alternate_on_a_checkerboard_unless_neighbours_are_at_two_distances() -> None:
    cells = torch.arange(12)
    colors = (100.0 * ((cells[:, None] + cells) % 2)).expand(1, 3, 12, 12)
    rows = (0.1 + 0.8 * (cells[:, None] % 2)).expand(1, 12, 12)  # diagonal neighbours share a colour and have opposite scores

    def change(dilations: tuple[int, ...], steps: int) -> float:
        first, second = (mean_field(rows, colors, rows > 0, torch.tensor([0]), dilations=dilations, iterations=i) for i in (20, 20 + steps))
        return (first - second).abs().mean().item()

    assert change((1,), 1) > 0.9
    assert change((1,), 2) < 1e-3
    assert change((1, 2), 1) < 0.1


def test_scores_outside_the_box_are_0_and_ignored() -> None:
    scores, colors, boxes, im_inds = _case()
    refined = mean_field(scores, colors, boxes, im_inds, **SETTINGS)
    assert (refined[~boxes] == 0).all()
    assert (refined[boxes] > 0).all()
    assert torch.equal(mean_field(torch.where(boxes, scores, 0.7), colors, boxes.double(), im_inds, **SETTINGS), refined)


def test_masks_in_no_window_are_only_cut_to_their_boxes() -> None:
    scores, colors, boxes, im_inds = _case()
    boxes[1, 4:] = False  # extends over 3 rows, the others over 4 columns or more
    refined = mean_field(scores, colors, boxes, im_inds, **SETTINGS)
    found = mean_field(scores, colors, boxes, im_inds, windows=windows_around(boxes, least_side=4), **SETTINGS)
    assert torch.equal(found[1], scores[1] * boxes[1])
    torch.testing.assert_close(found[[0, 2, 3, 4]], refined[[0, 2, 3, 4]])
    assert not torch.allclose(refined[1], found[1], atol=0.1)


def test_types_gradient_and_extreme_values() -> None:
    scores, colors, boxes, im_inds = _case()
    half = scores.bfloat16().requires_grad_()
    refined = mean_field(half, colors.float(), boxes, im_inds)
    assert refined.dtype == torch.float32
    assert not refined.requires_grad
    assert torch.equal(refined, mean_field(half.float(), colors.float(), boxes, im_inds))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mean_field(half, colors.float(), boxes, im_inds), refined)
    checkerboard = 100.0 * ((torch.arange(7)[:, None] + torch.arange(6)) % 2).expand(2, 3, 7, 6)  # the nearest neighbours differ most
    extreme = mean_field(scores.round(), checkerboard, boxes, im_inds, dilations=(1,), sigma=0.1)
    assert extreme.isfinite().all()
    assert mean_field(scores[:0], colors, boxes[:0], im_inds[:0]).shape == (0, 7, 6)


def test_wrong_shapes_are_refused() -> None:
    scores, colors, boxes, im_inds = _case()
    for args in ((scores, colors, boxes[:, 1:], im_inds), (scores, colors[:, :2], boxes, im_inds), (scores, colors, boxes, im_inds[1:])):
        with pytest.raises(ValueError, match="mean_field: expected mask_scores and box_masks"):
            mean_field(*args)
