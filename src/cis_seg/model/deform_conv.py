"""Modulated deformable 3x3 convolution (Zhu et al. 2019, section 3.2; layout of AdelaiDet, Backbone).

Legend: B batch, C channels, H W input grid, h w output grid.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from cis_seg.ops.precision import at_least_float32, without_autocast

KERNEL = 3
TAPS = KERNEL * KERNEL


class ModulatedDeformConv2d(nn.Conv2d):
    """A 3x3 without bias; a second 3x3 predicts an offset and a weight for each of its nine taps at every output position.

    ``offset`` has 27 output channels: interleaved (y, x) offsets in pixels of the nine taps in row-major order, then nine modulation
    logits. It starts at zero, which leaves the taps in place with a weight of one half each, as in the reference.

    It is a ``Conv2d`` with the same parameter names, so that weights of the rigid network fit; only ``offset.*`` is new.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, KERNEL, stride=stride, padding=KERNEL // 2, bias=False)
        self.offset = nn.Conv2d(in_channels, 3 * TAPS, KERNEL, stride=stride, padding=KERNEL // 2)
        self.zero_offsets()

    def zero_offsets(self) -> None:
        """Reset the offset convolution to zero."""
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C_out, h, w)`` of the same type.

        Always at least float32, also under autocast: ``deform_conv2d`` has no bf16 on the CPU, and bf16 positions lose their sub-pixel
        digits.
        """
        with without_autocast(x.device):
            wide = at_least_float32(x)
            offset, modulation = self._taps(wide)
            y: Tensor = deform_conv2d(
                wide, offset, at_least_float32(self.weight), stride=self.stride, padding=self.padding, mask=modulation
            )
        return y.to(x.dtype)

    def _taps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets ``(B, 18, h, w)`` in pixels and modulation ``(B, 9, h, w)`` in [0, 1]."""
        weight, bias = at_least_float32(self.offset.weight), at_least_float32(self.offset.bias)  # type: ignore[arg-type]
        raw = nn.functional.conv2d(x, weight, bias, stride=self.stride, padding=self.offset.padding)
        return raw[:, : 2 * TAPS], raw[:, 2 * TAPS :].sigmoid()
