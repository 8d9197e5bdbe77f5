"""Where a level's cells look in the image, and which lie around each.

Legend: h w a level's grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def level_locations(h: int, w: int, stride: int, device: torch.device | str) -> Tensor:
    """The image point of every cell of one level: ``stride // 2 + i * stride`` (AdelaiDet, FCOS head).

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
    return torch.stack((xs.expand(h, w), ys.unsqueeze(1).expand(h, w)), dim=2).flatten(0, 1)


def level_neighbours(h: int, w: int, start: int, device: torch.device | str) -> Tensor:
    """The 3x3 cells around every cell of one level, as a convolution sees them.

    Args:
        h, w: rows and columns of the level's grid.
        start: number of its first cell among those of all levels.
        device: where the result lives.

    Returns:
        ``(h * w, 9)`` int64, numbers among the cells of all levels, row by row; -1 where there is none.
    """
    cells = F.pad(torch.arange(start, start + h * w, device=device).view(h, w), (1, 1, 1, 1), value=-1)
    return torch.stack([cells[y : y + h, x : x + w] for y in range(3) for x in range(3)], dim=2).flatten(0, 1)
