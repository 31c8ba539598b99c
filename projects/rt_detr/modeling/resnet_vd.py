"""ResNet-vd: a stem of three 3x3 convolutions, and shortcuts that average before they project.

Source: He et al., "Bag of Tricks for Image Classification", CVPR 2019, section 4.1 (ResNet-D).
Unlike timm's ``resnet18d`` and ``resnet34d``, the first block of every stage has a projection, also
where nothing changes its shape: RT-DETR's weights have it.
"""

from __future__ import annotations

import torch.nn.functional as F
from detectron2.layers import CNNBlockBase, Conv2d, get_norm
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock, ResNet
from torch import Tensor, nn

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class DeepStem(CNNBlockBase):
    """Images (B, 3, H, W) to (B, 64, H / 4, W / 4)."""

    def __init__(self, norm: str = "FrozenBN") -> None:
        super().__init__(3, 64, 4)
        self.conv1 = _conv(3, 32, 3, norm, stride=2)
        self.conv2 = _conv(32, 32, 3, norm)
        self.conv3 = _conv(32, 64, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu_(conv(x))
        return F.max_pool2d(x, 3, 2, 1)


def make_vd_stages(depth: int, norm: str = "FrozenBN") -> list[list[nn.Module]]:
    """The four stages, for ``ResNet(stages=...)``; a block's stride is in its 3x3 convolution.

    Raises:
        ValueError: for an unknown depth.
    """
    if depth not in BLOCKS:
        raise ValueError(f"backbone.stages: depth is one of {sorted(BLOCKS)}, got {depth}")
    block, growth = (BottleneckBlock, 4) if depth >= 50 else (BasicBlock, 1)
    stages, inputs = [], 64
    for i, count in enumerate(BLOCKS[depth]):
        width, stride = 64 << i, 1 if i == 0 else 2
        options = {"bottleneck_channels": width} if growth > 1 else {}
        stage = ResNet.make_stage(
            block,
            count,
            in_channels=inputs,
            out_channels=width * growth,
            stride_per_block=[stride] + [1] * (count - 1),
            norm=norm,
            **options,
        )
        stage[0].shortcut = nn.Sequential(
            nn.Identity() if stride == 1 else nn.AvgPool2d(2, ceil_mode=True),
            _conv(inputs, width * growth, 1, norm),
        )
        stages.append(stage)
        inputs = width * growth
    return stages


def _conv(inputs: int, outputs: int, kernel: int, norm: str, stride: int = 1) -> Conv2d:
    norm_layer = get_norm(norm, outputs)
    conv = Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False, norm=norm_layer)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
