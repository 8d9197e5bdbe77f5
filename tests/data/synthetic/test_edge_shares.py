"""The share of neighbouring pixels that look alike, on images small enough to count by hand and against a slow loop."""

from __future__ import annotations

import math

import numpy as np
import torch

from cis_seg.data.synthetic.card import COLOR_THRESH, EdgeShares, LabelledImage, edge_shares
from cis_seg.ops.color import rgb_to_lab


def test_two_people_side_by_side_in_two_colours() -> None:
    """Columns: nobody (white) | person 1 (red) | person 2 (red) | unknown (red). Edges along columns and across."""
    image = np.full((3, 4, 3), 255, np.uint8)
    image[:, 1:] = (200, 0, 0)
    owner = np.tile(np.array([0, 1, 2, -1]), (3, 1))
    in_box = np.tile(np.array([True, True, True, False]), (3, 1))
    assert edge_shares([LabelledImage(image, owner, in_box)], stride=1, dilation=1) == EdgeShares(1.0, 1.0, 0.0, 1.0)


def test_share_without_edges_is_nan() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    shares = edge_shares([LabelledImage(image, np.zeros((4, 4), np.int64), np.zeros((4, 4), bool))], stride=1, dilation=1)
    assert all(math.isnan(share) for share in (shares.inside, shares.person_person, shares.person_background, shares.background))


def slow_shares(labelled: LabelledImage, stride: int, dilation: int) -> list[float]:
    h, w = (side // stride for side in labelled.owner.shape)
    alike, total = np.zeros(4), np.zeros(4)
    lab = np.zeros((h, w, 3))
    for i in range(h):
        for j in range(w):
            block = labelled.image[i * stride : (i + 1) * stride, j * stride : (j + 1) * stride].reshape(-1, 3).mean(0)
            lab[i, j] = rgb_to_lab(torch.tensor(np.floor(block)).reshape(3, 1, 1)).reshape(3).numpy()
    at = stride // 2
    for i in range(h):
        for j in range(w):
            for di in (-dilation, 0, dilation):
                for dj in (-dilation, 0, dilation):
                    if (di, dj) == (0, 0) or not (0 <= i + di < h and 0 <= j + dj < w):
                        continue
                    a, b = (labelled.owner[y * stride + at, x * stride + at] for y, x in ((i, j), (i + di, j + dj)))
                    inside_box = labelled.in_box[i * stride + at, j * stride + at]
                    if a > 0 and b > 0:
                        kind = 0 if a == b else 1
                    elif max(a, b) > 0 and min(a, b) == 0:
                        kind = 2
                    elif a == 0 and b == 0 and inside_box:
                        kind = 3
                    else:
                        continue
                    total[kind] += 1
                    alike[kind] += np.exp(-0.5 * np.linalg.norm(lab[i, j] - lab[i + di, j + dj])) >= COLOR_THRESH
    assert total.min() > 0
    return [float(share) for share in alike / total]


def test_equals_the_slow_loop() -> None:
    rng = np.random.default_rng(0)
    owner = np.kron(rng.integers(-1, 3, (10, 8)), np.ones((5, 5), np.int64))
    image = (rng.integers(0, 3, (50, 40, 1)) + 2 * owner[..., None] + 100).astype(np.uint8).repeat(3, 2)
    labelled = LabelledImage(image, owner, rng.random((50, 40)) < 0.7)
    for stride, dilation in ((2, 1), (4, 2)):
        shares = edge_shares([labelled], stride=stride, dilation=dilation)
        found = [shares.inside, shares.person_person, shares.person_background, shares.background]
        np.testing.assert_allclose(found, slow_shares(labelled, stride, dilation))
