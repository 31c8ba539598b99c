"""DEIM on RT-DETRv2 (Huang et al., CVPR 2025, arXiv 2412.04234): the method is its recipe, many
objects an image, and its loss; the released code also changes RT-DETR's decoder a little."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from detrex.layers import FFN, MLP
from projects.rt_detr.modeling import RTDETR, RTDETRTransformerDecoder


class DEIMTransformerDecoder(RTDETRTransformerDecoder):
    """RT-DETR's, whose MLP that makes a position of a box is built like a box head."""

    def __init__(self, **rt_detr) -> None:
        super().__init__(**rt_detr)
        self.ref_point_head = MLP(4, self.embed_dim, self.embed_dim, 3)


class DEIM(RTDETR):
    """RT-DETR with SiLU instead of ReLU in the decoder and its heads."""

    def __init__(self, **rt_detr) -> None:
        super().__init__(**rt_detr)
        for module in self.transformer.modules():  # the heads are also the decoder's
            if isinstance(module, MLP):
                module.activation = F.silu
            elif isinstance(module, FFN):
                module.activation = module.layers[0][1] = nn.SiLU(inplace=True)
