"""Colours: Lab against the textbook and skimage, similarity against a loop and the reference, validity."""

import pytest
import torch

import oracles
from cis_seg.ops.color import color_similarity, pooled_colors, rgb_to_lab, valid_mask
from golden_arrays import isolated_arrays


def _random_image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 255, 255), (100.0, -0.00245, 0.00465)),  # the matrix's rows do not sum exactly to the white
        ((255, 0, 0), (53.2406, 80.0923, 67.2028)),
        ((0, 0, 255), (32.2957, 79.1856, -107.8572)),
        ((3, 2, 1), (0.5869, 0.1224, 0.4706)),  # the straight piece near black
        ((238, 198, 63), (81.25192, 0.85905534, 68.92341)),  # from the reference
    ],
)
def test_lab_of_known_colours(rgb: tuple[int, int, int], expected: tuple[float, float, float]) -> None:
    image = torch.tensor(rgb, dtype=torch.uint8)[:, None, None]
    assert rgb_to_lab(image).flatten().tolist() == pytest.approx(expected, abs=2e-2)
    assert rgb_to_lab(image).flatten().tolist() == pytest.approx(oracles.lab(*rgb), abs=1e-4)


def test_lab_equals_skimage() -> None:
    color = pytest.importorskip("skimage.color", reason="scikit-image is the oracle here")
    image = _random_image(3, 40, 50)
    expected = torch.from_numpy(color.rgb2lab(image.permute(1, 2, 0).numpy())).permute(2, 0, 1)
    torch.testing.assert_close(rgb_to_lab(image).double(), expected.double(), rtol=0, atol=2e-4)


def test_lab_keeps_leading_shape_and_precision() -> None:
    image = _random_image(2, 5, 3, 4, 6)
    assert rgb_to_lab(image).shape == image.shape
    assert rgb_to_lab(image).dtype == torch.float32
    assert torch.equal(rgb_to_lab(image.bfloat16()), rgb_to_lab(image.bfloat16().float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rgb_to_lab(image.float()), rgb_to_lab(image))


def test_lab_gradient_is_finite_at_black() -> None:
    image = torch.tensor([[0.0, 3.0, 200.0]] * 3, dtype=torch.float64)[:, None].requires_grad_()
    assert torch.autograd.gradcheck(rgb_to_lab, (image,))


@pytest.mark.parametrize(("size", "dilation"), [(3, 1), (3, 2), (5, 1)])
def test_similarity_equals_loop(size: int, dilation: int) -> None:
    images = 100 + _random_image(2, 3, 6, 5, seed=3).double() / 20  # near each other, so that similarities are not all 0
    valid = _random_image(2, 6, 5, seed=4) < 200
    expected = [oracles.color_similarity(image, mask, size, dilation) for image, mask in zip(images.tolist(), valid.tolist(), strict=True)]
    similarity = color_similarity(images, valid, size=size, dilation=dilation)
    torch.testing.assert_close(similarity, torch.tensor(expected, dtype=torch.float64))
    assert (similarity > 0.05).float().mean() > 0.2


def test_similarity_typed_reference_numbers() -> None:
    """A pixel of the reference's golden image and its 8 neighbours 2 pixels away, here laid side by side."""
    colors = torch.tensor(
        [
            [[238, 238, 50], [238, 238, 50], [233, 233, 241]],
            [[199, 198, 203], [199, 198, 203], [113, 113, 104]],
            [[63, 64, 224], [63, 63, 224], [247, 247, 28]],
        ],
        dtype=torch.uint8,
    )
    similarity = color_similarity(colors[None], torch.ones(1, 3, 3), dilation=1)[0, :, 1, 1]
    expected = [0.73237473, 0.83380461, 1.2740437e-21, 0.73237473, 1.2740437e-21, 1.2375095e-29, 1.2375095e-29, 2.9704919e-12]
    torch.testing.assert_close(similarity, torch.tensor(expected), rtol=2e-4, atol=0)


def test_similarity_follows_the_neighbours_validity_alone() -> None:
    valid = torch.tensor([[[1.0, 0.0, 1.0]]])
    similarity = color_similarity(torch.full((1, 3, 1, 3), 90.0), valid, dilation=1)[0, :, 0]
    assert similarity[3].tolist() == [0, 1, 0]  # to the left: outside, valid, invalid
    assert similarity[4].tolist() == [0, 1, 0]  # to the right: invalid, valid, outside


def test_similarity_gradient_is_finite_where_colours_are_equal() -> None:
    images = torch.full((1, 3, 2, 2), 90.0, requires_grad=True)
    similarity = color_similarity(images, torch.ones(1, 2, 2), dilation=1)
    similarity.sum().backward()
    assert similarity.unique().tolist() == [0, 1]
    assert images.grad is not None
    assert not images.grad.any()


def test_pooled_colors() -> None:
    pixels = _random_image(2, 3, 8, 12)
    exact = pooled_colors(pixels, 4, truncate=False)
    assert exact[1, 2, 0, 1].item() == sum(pixels[1, 2, :4, 4:8].flatten().tolist()) / 16
    assert torch.equal(pooled_colors(pixels, 4), exact.to(torch.uint8).float())
    assert torch.equal(pooled_colors(pixels, 1), pixels.float())


def test_valid_mask_typed_numbers() -> None:
    mask = valid_mask([(13, 16), (16, 9)], [(26, 32), (16, 9)], (16, 16), 4, "cpu", bottom_margin=10)
    assert mask.dtype == torch.bool
    # first image: int(10 * 13 / 26) = 5 rows off, 8 left: rows at 2 and 6; second: 10 off, 6 left: the row at 2; columns at 2 and 6
    assert mask.int().tolist() == [[[1, 1, 1, 1], [1, 1, 1, 1], [0] * 4, [0] * 4], [[1, 1, 0, 0], [0] * 4, [0] * 4, [0] * 4]]
    assert valid_mask([(8, 8)], [(8, 8)], (8, 8), 1, "cpu", bottom_margin=0).all()


@pytest.mark.parametrize(("image", "original_height"), [(0, 64), (1, 150)])
def test_golden_chain(golden, image: int, original_height: int) -> None:
    names = ("rgb", "mask_full_padded", "down_byte_rgb", "lab", "similarity")
    rgb, full, down, lab, similarity = isolated_arrays(golden, *(f"col{image}_{name}" for name in names))
    height, width = rgb.shape[1:]
    padded = torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    padded[0, :, :height, :width] = rgb
    valid = valid_mask([(height, width)], [(original_height, width)], (64, 96), 4, "cpu")
    assert torch.equal(valid[0], full[2::4, 2::4].bool())
    assert torch.equal(valid_mask([(height, width)], [(original_height, width)], (64, 96), 1, "cpu")[0], full.bool())
    colors = pooled_colors(padded, 4)
    assert torch.equal(colors[0], down.float())
    torch.testing.assert_close(rgb_to_lab(colors)[0], lab, rtol=0, atol=1e-4)
    torch.testing.assert_close(color_similarity(colors, valid)[0], similarity, rtol=0, atol=1e-4)
