"""Frozen batch norms folded into the convolutions before them.

norm(conv(x, w)) = conv(x, w * scale) + shift, with scale and shift of the norm's buffers: one pass
over the features less, and one tensor less kept for the backward pass.
"""

from __future__ import annotations

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn


class FoldedConv2d(nn.Conv2d):
    """A convolution that applies the norm ``folded[0]``, folded anew in every forward.

    So weights and buffers can be trained, loaded and averaged as ever.
    """

    folded: tuple[FrozenBatchNorm2d]  # in a tuple: it must not be registered a second time

    def forward(self, x: Tensor) -> Tensor:
        (norm,) = self.folded
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = torch.addcmul(norm.bias, norm.running_mean, scale, value=-1)
        return self._conv_forward(x, self.weight * scale[:, None, None, None], shift)


class FoldedNorm(FrozenBatchNorm2d):
    """Holds the buffers of a norm that its convolution applies."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def fold(conv: nn.Conv2d, norm: FrozenBatchNorm2d) -> None:
    """Makes a convolution without a bias apply the norm that follows it; keys stay as they are."""
    conv.__class__, norm.__class__ = FoldedConv2d, FoldedNorm
    conv.folded = (norm,)


def fold_frozen_norms(model: nn.Module) -> None:
    """Folds every frozen norm that a convolution of detectron2 owns."""
    for conv in list(model.modules()):
        if type(conv) is Conv2d and conv.bias is None and conv.activation is None:
            if type(conv.norm) is FrozenBatchNorm2d:
                fold(conv, conv.norm)
