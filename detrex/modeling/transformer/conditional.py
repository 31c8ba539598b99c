"""Decoder whose cross-attention looks around the point of each query.

Source: Conditional DETR (Meng et al. 2021), section 3.3.
Legend: B images, N queries, C channels; boxes are points or cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from detrex.layers import (
    MLP,
    ConditionalCrossAttention,
    ConditionalSelfAttention,
    get_sine_pos_embed,
)
from detrex.modeling.queries import Queries
from detrex.utils.arguments import keep_arguments

from .dense import DenseDecoder, DenseEncoder, DenseMemory


class ConditionalEncoder(DenseEncoder):
    """The dense encoder; the activation of its feed-forward is PReLU by default."""

    @keep_arguments
    def __init__(self, *, activation: nn.Module | None = None, **dense) -> None:
        super().__init__(activation=activation or nn.PReLU(), **dense)


class ConditionalDecoder(DenseDecoder):
    """Queries look around their points: position = sine(point) * MLP(content).

    ``ref_point_head`` turns a query's learned position into its point.
    """

    @keep_arguments
    def __init__(
        self,
        *,
        embed_dim: int = 256,
        activation: nn.Module | None = None,
        attentions: tuple = (ConditionalSelfAttention, ConditionalCrossAttention),
        modules: Mapping[str, nn.Module] | None = None,
        **dense,
    ) -> None:
        heads = {
            "query_scale": MLP(embed_dim, embed_dim, embed_dim, 2),
            "ref_point_head": MLP(embed_dim, embed_dim, 2, 2),
        }
        super().__init__(
            embed_dim=embed_dim,
            activation=activation or nn.PReLU(),
            attentions=attentions,
            modules={**heads, **(modules or {})},
            **dense,
        )
        for layer in self.layers[1:]:  # only the first layer adds positions to contents
            layer.attentions[1].query_pos_proj = None

    def position(self, i: int, queries: Queries, memory: DenseMemory) -> dict[str, Tensor]:
        place = get_sine_pos_embed(queries.boxes, self.embed_dim // 2)  # (B, N, C)
        return {"query_pos": queries.position, **self.look(i, queries.content, place)}

    def look(self, i: int, content: Tensor, place: Tensor) -> dict[str, Tensor | bool]:
        """Inputs of layer ``i``'s cross-attention: positions ``place`` (B, N, C), which from the
        second layer on the contents (B, N, C) scale."""
        first = i == 0
        place = place if first else place * self.query_scale(content)
        return {"query_sine_embed": place, "is_first_layer": first}
