"""The ramp of a loss term."""

import pytest

from cis_seg.losses.ramp import ramp


def test_ramp_counts_from_one() -> None:
    assert ramp(1, 10_000) == pytest.approx(1e-4)
    assert ramp(5_000, 10_000) == 0.5
    assert ramp(10_000, 10_000) == ramp(10_001, 10_000) == 1.0
    assert ramp(1, 0) == 1.0
