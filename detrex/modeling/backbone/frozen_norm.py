"""Frozen batch norms folded into the convolutions before them.

norm(conv(x, w)) = conv(x, w * scale) + shift, with scale and shift of the norm's buffers: one pass
over the features less, and one tensor less kept for the backward pass.
"""

from __future__ import annotations

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn


class FoldedConv2d(nn.Conv2d):
    """A convolution that applies its norm folded into its weight, anew in every forward.

    So weights and buffers can be trained, loaded and averaged as ever.
    """

    norm: FrozenBatchNorm2d

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = torch.addcmul(norm.bias, norm.running_mean, scale, value=-1)
        return self._conv_forward(x, self.weight * scale[:, None, None, None], shift)


def fold_frozen_norms(model: nn.Module) -> None:
    """Makes detectron2's convolutions apply the frozen norms that they own; keys stay."""
    for conv in model.modules():
        if type(conv) is Conv2d and conv.bias is None and conv.activation is None:
            if type(conv.norm) is FrozenBatchNorm2d:
                conv.__class__ = FoldedConv2d
