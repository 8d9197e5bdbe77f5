"""Steps whose loss stands out: the first sign of a learning rate that is too high, or of images that are not what they should be."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

#: because of 1,000 steps that our own runs logged none was above 1.2 times the median before it
FACTOR = 3.0
WINDOW = 100  # steps whose median counts
LEAST = 20  # steps before which nothing stands out
PAUSE = 100  # steps between two warnings


class LossSpikes:
    """Compares each step's loss with the median of the steps before it."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._silent_until, self._untold = 0, 0

    def look(self, step: int, loss: float, image_ids: Sequence[int]) -> str | None:
        """The warning about ``step``, if it is due; ``loss`` is finite."""
        usual = median(self._recent) if len(self._recent) >= LEAST else loss
        self._recent.append(loss)
        if loss <= FACTOR * usual:
            return None
        if step < self._silent_until:
            self._untold += 1
            return None
        also = f"; so were {self._untold} more since the last warning" if self._untold else ""
        self._silent_until, self._untold = step + PAUSE, 0
        ids = ", ".join(map(str, image_ids))
        return f"step {step}: the loss {loss:.4g} is more than {FACTOR:g} times the recent median {usual:.4g} (images {ids}){also}"
