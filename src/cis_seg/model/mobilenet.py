"""MobileNetV2 (Sandler et al. 2018): a backbone for a CPU, with 1.8 million parameters."""

from __future__ import annotations

from torch import nn
from torchvision.models import MobileNetV2 as Classifier

from cis_seg.model.backbone import Backbone, FrozenNorm


class MobileNetV2(Backbone):
    """torchvision's MobileNetV2 of width 1, without the 1x1 to 1,280 channels and the classifier.

    A stage ends before the next convolution of stride 2; its features are the linear outputs of its last block, with 24, 32, 96 and 320
    channels.

    Args:
        frozen_norm: BatchNorm with fixed statistics and affine (for pretrained weights) instead of a trainable one.
        frozen_stages: the stem (1) and the stages up to this one get no gradient; 0 trains everything. 3 freezes the first seven of the
            18 modules of ``features``, up to stride 8.
    """

    parts = tuple(tuple(f"features.{i}" for i in range(*ends)) for ends in ((0, 2), (2, 4), (4, 7), (7, 14), (14, 18)))
    unread = ("features.18.", "classifier.")

    def __init__(self, *, frozen_norm: bool, frozen_stages: int = 0) -> None:
        super().__init__()
        self.features = Classifier(norm_layer=FrozenNorm if frozen_norm else nn.BatchNorm2d).features[:-1]
        self.out_channels = {2: 24, 3: 32, 4: 96, 5: 320}
        self.freeze(frozen_stages)
