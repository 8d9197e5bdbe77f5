"""The factor of loss terms that mislead an untrained network."""

from __future__ import annotations


def ramp(step: int, steps: int) -> float:
    """Return the factor of a term at training step ``step``, counted from 1: ``min(step / steps, 1)``.

    BoxInst ramps the pairwise loss over its first 10,000 iterations; at full weight from the start, untrained masks vanish. BoxTeacher
    does the same with the teacher's term. ``steps=0`` means that the ramp is over, as in a fine-tune.
    """
    return min(step / steps, 1.0) if steps > 0 else 1.0
