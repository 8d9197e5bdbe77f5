"""The examples in the docstrings of the public losses."""

from __future__ import annotations

import doctest
import importlib

import pytest
import torch


@pytest.mark.parametrize("name", ["centerness", "dice", "focal", "giou", "overlap", "pairwise", "projection"])
def test_examples(name: str) -> None:
    results = doctest.testmod(importlib.import_module(f"cis_seg.losses.{name}"), extraglobs={"torch": torch})
    assert results.attempted >= 2
    assert results.failed == 0
