"""What the names of runs say: which of them belong together."""

from __future__ import annotations

import re

_STAGE = re.compile(r"_(pretrain|finetune|finetune_overlap|ov[\d.]+)$")


def family(name: str) -> str:
    """What runs share that differ in their stage or in OverlapLoss alone: ``crowd_tiny`` of ``crowd_tiny_pretrain``."""
    return _STAGE.sub("", name)
