"""The examples in the docstrings of the public losses."""

from __future__ import annotations

import doctest
import importlib

import pytest
import torch


@pytest.mark.parametrize(
    ("name", "losses"), [("detection", 3), ("dice", 1), ("overlap", 1), ("pairwise", 1), ("projection", 1), ("teacher", 1)]
)
def test_examples(name: str, losses: int) -> None:
    results = doctest.testmod(importlib.import_module(f"cis_seg.losses.{name}"), extraglobs={"torch": torch})
    assert results.attempted >= 2 * losses
    assert results.failed == 0
