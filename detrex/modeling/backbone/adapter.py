"""Three levels from a plain ViT and a few convolutions of the image: the Spatial Tuning Adapter of
DEIMv2 (Huang et al., arXiv 2509.20787).

Legend: B images, C channels, D channels of the ViT.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn

from .vit import on_whole_patches

STRIDES = {"p3": 8, "p4": 16, "p5": 32}


class SpatialAdapter(Backbone):
    """Levels ``p3``, ``p4``, ``p5`` of strides 8, 16, 32: an early, a later and the last layer of a
    ViT, resized, beside convolutions of the image that see what its patches blur.

    Level i is norm(1x1 convolution of [ViT's layer i, convolutions at that stride]).

    Args:
        net: a plain ViT that returns three layers of D channels, earliest first.
        width: channels at stride 4; 2, 4 and 4 times as many at strides 8, 16 and 32.
        out_channels: of the three levels.
        norm: of all convolutions here, a batch norm that detectron2's ``get_norm`` knows by name.

    Patches of 16 pixels give one token a cell of ``p4``. For a ViT of other patches the image is
    resized so that this holds: by 14/16 for DINOv2.
    """

    def __init__(
        self, net: Backbone, width: int = 16, out_channels: int = 256, norm: str = "SyncBN"
    ) -> None:
        super().__init__()
        self.net = net
        self.out_channels = out_channels
        layer, *_ = net.output_shape().values()
        self.patch_size = layer.stride

        def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, **options) -> Conv2d:
            norm_layer = get_norm(norm, outputs)
            options |= dict(padding=kernel // 2, bias=False, norm=norm_layer)
            return Conv2d(inputs, outputs, kernel, stride, **options)

        dims = (width, 2 * width, 4 * width, 4 * width)
        self.stem = conv(3, width, 3, 2, activation=F.gelu)
        self.convs = nn.ModuleList(
            conv(inputs, outputs, 3, 2) for inputs, outputs in zip(dims, dims[1:], strict=False)
        )
        self.fusions = nn.ModuleList(conv(layer.channels + d, out_channels, 1) for d in dims[1:])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to features (B, C, ceil(H / stride), ceil(W / stride)) by name."""
        return on_whole_patches(self._levels, x, STRIDES)

    def _levels(self, x: Tensor) -> dict[str, Tensor]:
        size = [side // 16 * self.patch_size for side in x.shape[-2:]]
        resized = partial(F.interpolate, mode="bilinear", align_corners=False)
        layers = self.net(x if size == [*x.shape[-2:]] else resized(x, size, antialias=True))
        levels = {}
        local = F.max_pool2d(self.stem(x), 3, stride=2, padding=1)
        stages = zip(STRIDES, self.convs, self.fusions, layers.values(), strict=True)
        for name, conv, fusion, layer in stages:
            local = conv(F.gelu(local) if levels else local)
            layer = resized(layer, local.shape[-2:])  # (B, D, H / stride, W / stride)
            levels[name] = fusion(torch.cat([layer, local], 1))
        return levels

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {name: ShapeSpec(self.out_channels, stride=s) for name, s in STRIDES.items()}
