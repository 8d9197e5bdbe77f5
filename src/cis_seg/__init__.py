"""cis_seg: instance masks of people in crowds, learned from boxes alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cis_seg.inference.network import Network

__version__ = "0.1.0"


def load(checkpoint: str | Path, device: str = "auto") -> Network:
    """Load a checkpoint as a network that predicts.

    Example:
        >>> network = cis_seg.load("best.ckpt")
        >>> found = network.predict("photo.jpg")
        >>> found.masks.shape
        (7, 480, 640)

    Args:
        checkpoint: ``best.ckpt`` or ``last.ckpt`` of a run, or a converted one.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` ...

    Raises:
        CheckpointError: missing, corrupt, or not written by this package.
        ConfigError: this machine does not have the device.
    """
    from cis_seg.inference.network import load_network  # imported here because it needs PyTorch

    return load_network(Path(checkpoint).expanduser(), device)
