"""The whole network: normalisation, grid, mask logits of chosen locations, precision, what a checkpoint carries."""

import copy
from dataclasses import replace

import pytest
import torch

from cis_seg.errors import ConfigError
from cis_seg.structures import MaskSamples
from tiny_model import PADDED, SIZES, tiny_batch, tiny_model

MEAN, STD = [10.0, 20.0, 30.0], [1.0, 2.0, 4.0]


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_normalisation(order: str) -> None:
    model = tiny_model(pixel_mean=MEAN, pixel_std=STD, channel_order=order)
    pixels = torch.full((2, 3, *PADDED), 255, dtype=torch.uint8)  # also in the padding
    pixels[:, :, 0, 0] = torch.tensor([12, 26, 50], dtype=torch.uint8)
    before = pixels.clone()
    images = model.normalize(pixels, SIZES)
    assert images.dtype == torch.float32
    assert torch.equal(pixels, before), "the caller's pixels stay as they are"
    red, green, blue = 12, 26, 50
    first, third = (red, blue) if order == "rgb" else (blue, red)
    assert images[0, :, 0, 0].tolist() == pytest.approx([(first - 10) / 1, (green - 20) / 2, (third - 30) / 4])
    assert images[0, :, -1, -1].tolist() == pytest.approx([245.0, 117.5, 56.25]), "the first image fills the canvas"
    height, width = SIZES[1]
    assert not images[1, :, height:].any()
    assert not images[1, :, :, width:].any()
    assert (images[1, :, :height, :width] != 0).all()


def test_float_pixels_are_not_changed_in_place() -> None:
    model = tiny_model(pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3)
    pixels = torch.rand(2, 3, *PADDED).contiguous(memory_format=torch.channels_last)
    before = pixels.clone()
    assert not model.normalize(pixels, SIZES)[1, :, SIZES[1][0] :].any()
    assert torch.equal(pixels, before)


def test_statistics_travel_with_the_weights() -> None:
    batch = tiny_batch()
    theirs, ours = tiny_model(pixel_mean=MEAN, pixel_std=STD), tiny_model()
    assert {"pixel_mean", "pixel_std"} <= theirs.state_dict().keys()
    assert not torch.equal(theirs.normalize(batch.pixels, SIZES), ours.normalize(batch.pixels, SIZES))
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(theirs.normalize(batch.pixels, SIZES), ours.normalize(batch.pixels, SIZES))


def test_unknown_channel_order_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"(?s)model\.channel_order.*rgb or bgr.*found: BGR"):
        tiny_model(channel_order="BGR")


@pytest.mark.parametrize(("level", "grid"), [(3, (8, 12)), (2, (16, 24))])
@torch.no_grad()
def test_shapes_and_grid(level: int, grid: tuple[int, int]) -> None:
    model = tiny_model(mask_feat_level=level).eval()
    dense = model(torch.randn(2, 3, *PADDED))
    counts = [8 * 12, 4 * 6, 2 * 3, 1 * 2, 1 * 1]
    num = sum(counts)
    assert dense.cls_logits.shape == (2, num, 2)
    assert dense.ltrb.shape == (2, num, 4)
    assert dense.ctr_logits.shape == (2, num)
    assert dense.tower_feats.shape == (2, num, model.head.controller.in_channels)
    assert dense.locations.neighbours.shape == (num, 9)
    assert dense.locations.neighbours[:, 4].tolist() == list(range(num))
    assert dense.locations.neighbours[96].tolist() == [-1, -1, -1, -1, 96, 97, -1, 102, 103]  # the first of the second level, 4 rows of 6
    assert dense.mask_feats.shape == (2, 4, *grid)
    assert dense.locations.level_inds.tolist() == [i for i, count in enumerate(counts) for _ in range(count)]
    assert dense.locations.strides.tolist() == [8.0 * 2**i for i, count in enumerate(counts) for _ in range(count)]
    assert dense.locations.xy[[0, 1, 12, 96, 96 + 7, 128]].tolist() == [[4, 4], [12, 4], [4, 12], [8, 8], [24, 24], [64, 64]]


@torch.no_grad()
def test_mask_logits_belong_to_the_chosen_locations() -> None:
    model = tiny_model().eval()
    dense = model(torch.randn(2, 3, *PADDED, generator=torch.Generator().manual_seed(0)))
    dense = replace(dense, tower_feats=torch.randn_like(dense.tower_feats))
    im_inds, loc_inds = torch.tensor([0, 1, 1]), torch.tensor([100, 3, 127])
    logits = model.mask_logits(dense, MaskSamples(im_inds, loc_inds, im_inds, (1, 2), (1, 2)))
    assert logits.shape == (3, 16, 24)
    for n, (image, k) in enumerate(zip(im_inds.tolist(), loc_inds.tolist(), strict=True)):
        stride = [8, 16, 32, 64, 128][int(dense.locations.level_inds[k])]
        x, y = dense.locations.xy[k].tolist()
        params = model.mask_params(dense, torch.tensor([image]), torch.tensor([k]))
        arguments = (dense.mask_feats[image : image + 1], params, torch.tensor([[x, y]]), torch.tensor([stride]))
        torch.testing.assert_close(logits[n : n + 1], model.mask_head(*arguments, [1]), rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_bfloat16() -> None:
    model = tiny_model().eval()
    images = torch.randn(2, 3, *PADDED, generator=torch.Generator().manual_seed(0))
    samples = MaskSamples(torch.tensor([0, 1]), torch.tensor([5, 110]), torch.tensor([0, 0]), (1, 1), (1, 1))
    exact = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        dense = model(images)
        logits = model.mask_logits(dense, samples)
    assert dense.mask_feats.dtype == dense.tower_feats.dtype == torch.bfloat16
    assert dense.locations.xy.dtype == dense.locations.strides.dtype == torch.float32
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, model.mask_logits(exact, samples), rtol=0, atol=1e-2)
    torch.testing.assert_close(dense.cls_logits.float(), exact.cls_logits, rtol=0, atol=5e-2)


def test_both_orders_of_memory_give_the_same_outputs_and_gradients() -> None:
    results = []
    for order in (torch.channels_last, torch.contiguous_format):
        model = tiny_model()
        model.use_memory_format(order)
        images = model.normalize(tiny_batch().pixels, SIZES)
        assert images.is_contiguous(memory_format=order)
        assert all(x.is_contiguous(memory_format=order) for x in model.neck(model.backbone(images)).values())
        dense = model(images)
        (dense.ltrb.square().mean() + dense.mask_feats.square().mean() + dense.cls_logits.square().mean()).backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results.append((dense.mask_feats.detach(), dense.tower_feats.detach(), gradients))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_training_reaches_every_parameter() -> None:
    model = tiny_model()
    dense = model(torch.randn(2, 3, *PADDED))
    samples = MaskSamples(torch.tensor([0, 1]), torch.tensor([5, 110]), torch.tensor([0, 0]), (1, 1), (1, 1))
    outputs = (dense.cls_logits, dense.ltrb, dense.ctr_logits, model.mask_logits(dense, samples))
    torch.stack([x.square().mean() for x in outputs]).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.slow
def test_the_compiled_mask_head_gives_the_same_masks_and_gradients_for_any_number() -> None:
    torch.manual_seed(0)
    model = tiny_model().eval()
    eager, compiled = model, copy.deepcopy(model)
    compiled.compile_mask_head()
    images = torch.randn(2, 3, *PADDED, generator=torch.Generator().manual_seed(0))
    for counts in ((2, 1), (0, 5), (0, 0)):
        n = sum(counts)
        samples = MaskSamples(
            torch.repeat_interleave(torch.arange(2), torch.tensor(counts)), torch.arange(n) * 7, torch.zeros(n), counts, counts
        )
        gradients = []
        for network in (eager, compiled):
            logits = network.mask_logits(network(images), samples)
            assert logits.shape == (n, 16, 24)
            gradients.append(torch.autograd.grad(logits.square().sum(), network.head.controller.weight)[0])
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
