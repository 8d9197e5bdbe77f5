"""Where a level's cells look in the image.

Legend: h w a level's grid.
"""

from __future__ import annotations

import torch
from torch import Tensor


def level_locations(h: int, w: int, stride: int, device: torch.device | str) -> Tensor:
    """The image point of every cell of one level: ``stride // 2 + i * stride`` (REFERENCE.md, FCOS head).

    Args:
        h: rows of the level's grid.
        w: columns of the level's grid.
        stride: pixels from one cell to the next.
        device: where the result lives.

    Returns:
        ``(h * w, 2)`` float32, (x, y) in pixels of the network's input, row by row.
    """
    ys = torch.arange(h, device=device, dtype=torch.float32) * stride + stride // 2
    xs = torch.arange(w, device=device, dtype=torch.float32) * stride + stride // 2
    return torch.stack((xs.repeat(h), ys.repeat_interleave(w)), dim=1)
