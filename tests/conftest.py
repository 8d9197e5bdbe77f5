"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

# the property tests draw the same examples in every run; `pytest --hypothesis-profile=search` looks for new ones
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("search", derandomize=False)
settings.load_profile("repeatable")


def _shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs ../shared/{name}, which is not part of the repository")
    return folder


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Fail a test that leaves child processes, for example of a DataLoader iterator: they can block a later test or the exit."""
    before = multiprocessing.active_children()
    yield
    left = [process for process in multiprocessing.active_children() if process not in before]
    assert left == []


@pytest.fixture(autouse=True)
def no_stream_handler_is_left() -> Iterator[None]:
    """Remove handlers that a command called in this process adds to the root logger: later tests would write to a closed stream."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler and handler not in before:
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Small real data sets beside the checkout; the test skips where they are absent."""
    return _shared_folder("data")


@pytest.fixture(scope="session")
def golden() -> Path:
    """The reference's numbers beside the checkout; the test skips where they are absent."""
    return _shared_folder("golden")
