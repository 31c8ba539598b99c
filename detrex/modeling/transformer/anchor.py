"""Deformable decoder whose query positions are made from the boxes of the layer.

Source: DAB-DETR (Liu et al., ICLR 2022), section 4.2, as used by DAB-Deformable-DETR and DINO.
Legend: B images, N queries, C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from torch import Tensor

from detrex.layers import MLP, get_sine_pos_embed
from detrex.modeling.queries import Queries

from .deformable import DeformableDecoder
from .memory import Memory


class AnchorBoxDecoder(DeformableDecoder):
    """Position = MLP(sine(box)), made anew for every layer.

    ``content_scale`` multiplies it with MLP(content), from the second layer on.
    """

    heads_order = ("class_embed", "bbox_embed")  # as upstream registers them

    def __init__(self, *, content_scale: bool = False, **deformable) -> None:
        super().__init__(**deformable)
        dim = self.embed_dim
        self.query_scale = MLP(dim, dim, dim, 2) if content_scale else None
        self.ref_point_head = MLP(dim * 2, dim, dim, 2)

    def position(self, i: int, queries: Queries, memory: Memory) -> dict[str, Tensor]:
        boxes = memory.on_levels(queries.boxes)
        # As upstream: training makes it from the box as the finest padded level sees it. At
        # inference upstream pads nothing, and an image must not see what it is padded to.
        seen = boxes[:, :, 0] if self.training else queries.boxes
        sine = get_sine_pos_embed(seen, self.embed_dim // 2)
        position = self.ref_point_head(sine)  # (B, N, C)
        if self.query_scale is not None and i > 0:
            position = position * self.query_scale(queries.content)
        return {"query_pos": position, "reference_points": boxes}
