"""The teacher: which masks it gives, which pixels it trusts, how sure it is, and a run that learns from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cis_seg.config.loss_schema import TeacherConfig
from cis_seg.inference.postprocess import Postprocess
from cis_seg.losses.criterion import Criterion
from cis_seg.ops.boxes import boxes_to_ltrb
from cis_seg.ops.grids import pyramid_locations
from cis_seg.ops.masks import box_masks
from cis_seg.structures import DensePredictions, MaskSamples, PseudoMasks
from cis_seg.training.module import CondInstModule
from cis_seg.training.teacher import Teacher
from tiny_model import PADDED, tiny_batch, tiny_config, tiny_model

LEFT, RIGHT = [8.0, 8.0, 40.0, 40.0], [24.0, 8.0, 56.0, 40.0]  # centroids 24 and 40: the locations 20, 28 and 36, 44 may learn them


class Network:
    """Predicts the boxes of ``places`` (x, y) -> (box, class score), and at each of them a mask with one score everywhere."""

    def __init__(self, places: dict[tuple[int, int], tuple[list[float], float, float]]) -> None:
        self.places, self.seen, self.rendered = places, [], 0

    def eval(self) -> None: ...

    def normalize(self, pixels: Tensor, sizes: Any) -> Tensor:
        self.seen.append(pixels)
        return pixels

    def __call__(self, images: Tensor) -> DensePredictions:
        locations = pyramid_locations([(-(-PADDED[0] // s), -(-PADDED[1] // s)) for s in (8, 16, 32, 64, 128)], (8, 16, 32, 64, 128), "cpu")
        scores, ltrb = torch.full((len(images), len(locations.xy), 2), 1e-4), torch.full((len(images), len(locations.xy), 4), 0.01)
        self.masks = torch.full((len(locations.xy),), 0.01)
        for place, (box, score, mask) in self.places.items():
            at = int(((locations.level_inds == 0) & (locations.xy == torch.tensor(place)).all(dim=1)).nonzero())
            ltrb[:, at] = boxes_to_ltrb(locations.xy[at], torch.tensor(box)) / 8
            scores[:, at, 1], self.masks[at] = score, mask
        return DensePredictions(scores.logit(), ltrb, torch.full(scores.shape[:2], 50.0), torch.zeros(1), torch.zeros(1), locations)

    def mask_logits(self, dense: DensePredictions, samples: MaskSamples) -> Tensor:
        self.rendered = len(samples.loc_inds)
        return self.masks[samples.loc_inds].logit()[:, None, None].expand(-1, PADDED[0] // 4, PADDED[1] // 4)


def taught(network: Network, *boxes: list[list[float]], **options: Any) -> PseudoMasks:
    return Teacher(TeacherConfig(**options), tiny_config())(network, tiny_batch(*boxes))  # type: ignore[arg-type]


def grid(*boxes: list[float]) -> Tensor:
    return box_masks(torch.tensor(boxes), (PADDED[0] // 4, PADDED[1] // 4), 4)


def test_the_best_fitting_locations_vote_by_their_fit() -> None:
    half = [8.0, 8.0, 40.0, 24.0]  # IoU 0.5
    network = Network({(20, 20): (LEFT, 0.64, 0.9), (28, 28): (half, 0.64, 0.6), (20, 28): (half, 0.04, 0.1)})
    found = taught(network, [LEFT], [LEFT], locations=2)
    assert network.rendered == 2 * 2
    mean = (0.8 * 0.9 + 0.4 * 0.6) / 1.2
    torch.testing.assert_close(found.masks, mean * grid(LEFT, LEFT))  # cut to the box
    torch.testing.assert_close(found.quality, torch.tensor((0.8 * mean) ** 0.5).expand(2))
    assert found.starts == (0, 1)
    alone = taught(network, [LEFT], [LEFT], locations=1)
    torch.testing.assert_close(alone.masks, 0.9 * grid(LEFT, LEFT))


@pytest.mark.parametrize("other", [0.9, 0.4])
def test_pixels_that_two_masks_claim_are_ignored(other: float) -> None:
    network = Network({(20, 20): (LEFT, 0.64, 0.9), (36, 20): (RIGHT, 0.64, other)})
    found = taught(network, [LEFT, RIGHT], [LEFT], locations=1)
    both = (grid(LEFT) & grid(RIGHT))[0]
    contested = both if other > 0.5 else torch.zeros_like(both)
    assert torch.equal(~found.trusted, torch.stack([contested, contested, torch.zeros_like(both)]))  # the other image has nobody beside
    assert taught(network, [LEFT, RIGHT], [LEFT], locations=1, contested="keep").trusted.all()


def test_targets_and_ignored_probabilities() -> None:
    network = Network({(20, 20): (LEFT, 0.64, 0.6)})
    found = taught(network, [LEFT], [], targets="hard", ignored=[0.3, 0.7], quality="equal")
    assert torch.equal(found.masks, grid(LEFT).float())
    assert torch.equal(found.trusted, ~grid(LEFT))
    assert found.quality.tolist() == [1.0]


def test_a_box_without_a_location_or_with_an_empty_mask_has_no_quality() -> None:
    between = [45.0, 45.0, 47.0, 47.0]
    found = taught(Network({(20, 20): (LEFT, 0.64, 0.4)}), [LEFT, between], [])
    assert found.quality.tolist() == [0, 0]
    assert taught(Network({(20, 20): (LEFT, 0.64, 0.4)}), [LEFT, between], [], quality="equal").quality.tolist() == [0, 0]


def test_refinement_follows_the_colours() -> None:
    batch = tiny_batch([LEFT], [])
    pixels = torch.zeros_like(batch.pixels)
    pixels[:, :, :, :24] = 255
    network = tiny_model()
    options, model = TeacherConfig(refine=5), tiny_config()
    found = Teacher(options, model)(network, replace(batch, clean_pixels=pixels))
    plain = Teacher(replace(options, refine=0), model)(network, replace(batch, clean_pixels=pixels))
    assert not torch.equal(found.masks, plain.masks)
    assert not found.masks[~grid(LEFT)].any()
    colored = Teacher(replace(options, colors=3.0), model)(network, replace(batch, clean_pixels=pixels))
    assert not torch.equal(colored.masks, found.masks)
    assert not colored.masks[~grid(LEFT)].any()


def test_the_clean_image_is_read_and_only_if_it_has_boxes() -> None:
    network, batch = Network({}), tiny_batch([LEFT], [])
    clean = replace(batch, clean_pixels=batch.pixels // 2)
    teacher = Teacher(TeacherConfig(), tiny_config())
    teacher(network, clean)  # type: ignore[arg-type]
    assert network.seen[-1] is clean.clean_pixels
    network.seen.clear()
    nothing = teacher(network, tiny_batch())  # type: ignore[arg-type]
    assert network.seen == []
    assert nothing.masks.shape == (0, PADDED[0] // 4, PADDED[1] // 4)


def test_a_large_crowd_has_fewer_votes() -> None:
    network = Network({(20, 20): (LEFT, 0.64, 0.9)})
    Teacher(TeacherConfig(locations=9), tiny_config(max_mask_samples=8))(network, tiny_batch([LEFT] * 3, [LEFT] * 20))  # type: ignore[arg-type]
    assert network.rendered == 3 * 2 + 20


def test_samples_find_their_instance() -> None:
    masks = PseudoMasks(torch.zeros(5, 1, 1), torch.ones(5, 1, 1).bool(), torch.ones(5), (0, 2))
    im_inds, gt_inds = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 0, 2, 0])
    assert masks.rows(MaskSamples(im_inds, gt_inds, gt_inds, (2, 2), (2, 2))).tolist() == [1, 0, 4, 2]


def test_a_step_in_bf16_is_finite_and_its_masks_are_those_of_float32() -> None:
    batch = tiny_batch([LEFT, RIGHT], [LEFT])
    teacher = Teacher(TeacherConfig(refine=3, colors=1.0, color_margin=0.0), tiny_config())
    module = CondInstModule(
        model=tiny_model(),
        criterion=Criterion(dict.fromkeys(("cls", "box", "ctr", "proj", "pairwise", "overlap", "teacher"), 1.0)),
        postprocess=Postprocess(),
        optimizer=None,  # type: ignore[arg-type]  # no step is taken
        class_names=["car", "person"],
        category_ids=[1, 2],
        teacher=teacher,
        momentum=0.9,
    )
    assert module.average is not None
    head = module.average.head  # that of an untrained network finds nothing
    head.controller.bias.data[-1] += 1
    head.cls_logits.bias.data += 4
    head.box_pred.bias.data.fill_(2.0)
    expected = teacher(module.average, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = teacher(module.average, batch)
        losses = module.losses(batch, step=1000)
    assert found.masks.dtype == found.quality.dtype == torch.float32
    torch.testing.assert_close(found.masks, expected.masks, atol=0.1, rtol=0)
    torch.testing.assert_close(found.quality, expected.quality, atol=0.01, rtol=0)
    assert found.quality.min() > 0
    assert all(value.isfinite() for value in losses.values())
    losses["loss_teacher"].backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert gradients["model.head.controller.weight"].any()
    assert not [name for name in gradients if name.startswith("average.")]


def test_predicted_in_evaluation_without_gradient() -> None:
    network, batch = tiny_model().train(), tiny_batch([LEFT], [])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = Teacher(TeacherConfig(), tiny_config())(network, batch)
    assert not found.masks.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items()), "running statistics do not move"
