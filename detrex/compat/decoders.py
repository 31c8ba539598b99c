"""Decoders that were written for upstream, behind our detectors.

Legend: B images, L layers, N queries, S tokens, C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from torch import Tensor, nn

from detrex.modeling.predictions import Outputs
from detrex.modeling.queries import Queries, isolation_mask
from detrex.modeling.transformer import DenseMemory
from detrex.utils import inverse_sigmoid


def decode_anchors(detector: nn.Module, queries: Queries, memory: DenseMemory) -> Outputs:
    """DAB-DETR's outputs with a decoder of upstream's arguments, sequence first.

    That decoder returns contents (L, B, N, C) and the boxes (L, B, N, 4) that each layer started
    from; the number of layers may differ between training and inference (SQR).
    """

    def first(x: Tensor) -> Tensor:
        return x.transpose(0, 1)

    mask = isolation_mask(queries.groups, queries.content.device)
    states, boxes = detector.transformer.decoder(
        query=first(queries.content),
        key=first(memory.tokens),
        value=first(memory.tokens),
        key_pos=first(memory.position),
        anchor_box_embed=first(queries.boxes).logit(),
        attn_masks=None if mask is None else [mask, None],
    )
    boxes = inverse_sigmoid(boxes) + detector.bbox_embed(states)
    return Outputs(detector.class_embed(states), boxes.sigmoid())
