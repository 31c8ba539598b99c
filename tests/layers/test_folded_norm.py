"""Folded convolutions at inference on the CPU, where oneDNN is called by name."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import nn

from detrex.layers.folded_norm import fold_norms


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
@pytest.mark.parametrize(("kernel", "stride", "groups"), [(1, 1, 1), (1, 2, 1), (3, 2, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_inference_equals_convolution_norm_and_activation(norm, kernel, stride, groups, layout):
    torch.manual_seed(0)
    layer = get_norm(norm, 6)
    options = dict(bias=False, groups=groups, norm=layer, activation=F.silu)
    conv = Conv2d(4, 6, kernel, stride, kernel // 2, **options).eval()
    for tensor in (layer.weight, layer.running_var):
        nn.init.uniform_(tensor, 0.5, 1.5)
    for tensor in (layer.bias, layer.running_mean):
        nn.init.normal_(tensor)
    x = torch.randn(2, 4, 9, 7).to(memory_format=layout)
    with torch.no_grad():
        expected = conv(x)
        fold_norms(conv)
        fast = conv(x)
    torch.testing.assert_close(fast, expected)
    torch.testing.assert_close(conv(x), expected)  # with gradients, by the usual operator
