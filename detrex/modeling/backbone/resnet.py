"""detectron2's ResNet under upstream's names, with a dilated last stage (DC5) on request."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock, ResNet
from torch import nn

__all__ = ["BasicBlock", "BasicStem", "BottleneckBlock", "ResNet", "make_stage"]

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def make_stage(
    depth: int = 50,
    norm: str = "FrozenBN",
    num_groups: int = 1,
    width_per_group: int = 64,
    in_channels: int = 64,
    out_channels: int = 256,
    stride_in_1x1: bool = False,
    res5_dilation: int = 1,
    deform_on_per_stage: Sequence[bool] = (False, False, False, False),
    deform_modulated: bool = False,
    deform_num_groups: int = 1,
) -> list[list[nn.Module]]:
    """The four stages of a bottleneck ResNet, for ``ResNet(stages=...)``.

    ``res5_dilation=2`` gives the last stage stride 1 (DC5 in DETR, Carion et al. 2020). The
    ``deform_*`` arguments are upstream's and must stay off.

    Raises:
        ValueError: for an unknown depth or dilation, or a stage of deformable convolutions.
    """
    if depth not in BLOCKS or res5_dilation not in (1, 2) or any(deform_on_per_stage):
        raise ValueError(
            f"backbone.stages: depth is one of {sorted(BLOCKS)}, res5_dilation 1 or 2, and"
            f" deformable convolutions are not offered; got depth={depth},"
            f" res5_dilation={res5_dilation}, deform_on_per_stage={list(deform_on_per_stage)}"
        )
    stages = []
    strides, dilations = (1, 2, 2, 2 // res5_dilation), (1, 1, 1, res5_dilation)
    for i, (count, stride) in enumerate(zip(BLOCKS[depth], strides, strict=True)):
        stage = ResNet.make_stage(
            BottleneckBlock,
            count,
            in_channels=in_channels,
            out_channels=out_channels << i,
            bottleneck_channels=num_groups * width_per_group << i,
            stride_per_block=[stride] + [1] * (count - 1),
            stride_in_1x1=stride_in_1x1,
            dilation=dilations[i],
            num_groups=num_groups,
            norm=norm,
        )
        stages.append(stage)
        in_channels = out_channels << i
    return stages
