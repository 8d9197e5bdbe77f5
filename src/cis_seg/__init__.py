"""cis_seg: instance masks of people in crowds, learned from boxes alone."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

__version__ = "0.1.0"


def load(checkpoint: str | Path, device: str = "auto") -> NoReturn:
    """Reserved for the Python interface: load a checkpoint as a network with ``predict``.

    Args:
        checkpoint: of a run, or a converted one.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` ...

    Raises:
        NotImplementedError: always; the message names the command that predicts.
    """
    raise NotImplementedError(
        f"cis_seg.load is not available yet: use python -m cis_seg.predict checkpoint={checkpoint} device={device} input=PHOTOS output=DIR"
    )
