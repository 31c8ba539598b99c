"""Batch norms folded into the convolutions before them.

norm(conv(x, w)) = conv(x, w * scale) + shift, with scale and shift of the norm's buffers: one pass
over the features less, and one tensor less kept for the backward pass.
"""

from __future__ import annotations

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def folded(conv: Conv2d) -> tuple[Tensor, Tensor]:
    """Weight (O, I, H, W) and bias (O,) of a convolution with its norm's statistics in them."""
    norm = conv.norm
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = torch.addcmul(norm.bias, norm.running_mean, scale, value=-1)
    return conv.weight * scale[:, None, None, None], shift


class FoldedConv2d(Conv2d):
    """A convolution that applies its norm folded into its weight, anew in every forward.

    So weights and buffers can be trained, loaded and averaged as before. A norm that is in training
    mode is not folded.
    """

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.norm, _BatchNorm) and self.norm.training:
            return super().forward(x)
        x = self._convolve(x, *folded(self))
        return x if self.activation is None else self.activation(x)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if not _at_inference() or not (x.is_cpu and x.dtype is weight.dtype is torch.float32):
            return self._conv_forward(x, weight, bias)
        # On one thread PyTorch chooses a 1x1 convolution that takes two to four times as long.
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        return torch.mkldnn_convolution(x, weight, bias, *geometry)


def _at_inference() -> bool:
    """Whether oneDNN may be called by name: nothing is learned, recorded or cast."""
    recorded = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
    return (
        not (recorded or torch.is_autocast_enabled("cpu")) and torch.backends.mkldnn.is_available()
    )


def fold_norms(model: nn.Module) -> None:
    """Fold, in place, the batch norms of detectron2's convolutions; state_dict keys stay."""
    for conv in model.modules():
        if type(conv) is Conv2d and conv.bias is None:
            if isinstance(conv.norm, FrozenBatchNorm2d | _BatchNorm):
                conv.__class__ = FoldedConv2d
