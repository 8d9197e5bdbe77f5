"""Reads the reference's isolated numbers (../shared/golden/README.txt explains the keys)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def isolated_arrays(golden: Path, *names: str) -> list[Tensor]:
    """The named arrays of isolated.npz."""
    with np.load(golden / "isolated.npz") as arrays:
        return [torch.from_numpy(arrays[name]) for name in names]


def isolated_json(golden: Path) -> dict[str, Any]:
    """Everything in isolated.json."""
    content: dict[str, Any] = json.loads((golden / "isolated.json").read_text())
    return content
