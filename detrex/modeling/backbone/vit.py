"""A feature pyramid on the one scale of a plain ViT (ViTDet, Li et al., ECCV 2022, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from detectron2.modeling.backbone import SimpleFeaturePyramid as _SimpleFeaturePyramid
from torch import Tensor


class SimpleFeaturePyramid(_SimpleFeaturePyramid):
    """detectron2's pyramid for images of any size: see :func:`on_whole_patches`."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to features (B, C, ceil(H / stride), ceil(W / stride)) by name."""
        return on_whole_patches(super().forward, x, self._out_feature_strides)


def on_whole_patches(
    backbone: Callable[[Tensor], dict[str, Tensor]],
    x: Tensor,
    strides: Mapping[str, int],
    step: int | None = None,
) -> dict[str, Tensor]:
    """Features of a backbone for images padded to multiples of ``step`` pixels; None: to whole
    cells of its coarsest level.

    The features are cropped to the cells that contain a pixel, like those of strided convolutions,
    so that they agree with masks and boxes.
    """
    height, width = x.shape[-2:]
    step = step or max(strides.values())
    features = backbone(F.pad(x, (0, -width % step, 0, -height % step)))
    return {
        name: level[..., : -(-height // strides[name]), : -(-width // strides[name])]
        for name, level in features.items()
    }
