"""The transformer of Anchor DETR (Wang et al., AAAI 2022): row-column decoupled attention.

Legend: B images, N queries, feature maps of H rows and W columns, C channels; points are (x, y) in
[0, 1].
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detrex.layers import get_sine_pos_embed
from detrex.layers.attention import Rows, masked_attention, project
from detrex.modeling.heads import build_heads
from detrex.modeling.queries import Queries
from detrex.modeling.transformer import Decoder
from detrex.utils.arguments import keep_arguments

from .row_column_attention import Axis, FeatureMap, RowColumnAttention


class FeedForward(nn.Module):
    """Two linear layers, the residual and its norm: (..., C)."""

    def __init__(self, embed_dim: int, width: int, dropout: float, activation: str) -> None:
        super().__init__()
        self.linear1 = nn.Linear(embed_dim, width)
        self.linear2 = nn.Linear(width, embed_dim)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.activation = getattr(F, activation)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.activation(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class EncoderLayer(nn.Module):
    """Every token attends to the rows and columns of its own feature map."""

    def __init__(self, embed_dim: int, num_heads: int, ffn: FeedForward) -> None:
        super().__init__()
        self.self_attn = RowColumnAttention(embed_dim, num_heads)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.ffn = ffn

    def forward(self, memory: FeatureMap) -> FeatureMap:
        x = memory.x.position[:, None].expand_as(memory.tokens)
        y = memory.y.position[:, :, None].expand_as(memory.tokens)
        content, x, y = (part.flatten(1, 2) for part in (memory.tokens, x, y))
        out = self.self_attn(content, x, y, memory)
        content = self.ffn(self.norm1(content + self.ffn.dropout(out)))
        return memory._replace(tokens=content.view_as(memory.tokens))


class DecoderLayer(nn.Module):
    """Queries attend to each other, then to the rows and columns of the memory."""

    def __init__(self, embed_dim: int, num_heads: int, ffn: FeedForward) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.cross_attn = RowColumnAttention(embed_dim, num_heads)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.self_attn = nn.MultiheadAttention(
            embed_dim, num_heads, dropout=ffn.dropout.p, batch_first=True
        )
        self.norm2 = nn.LayerNorm(embed_dim)
        self.ffn = ffn

    def forward(
        self,
        content: Tensor,
        memory: FeatureMap,
        query_pos: Tensor,
        query_x: Tensor,
        query_y: Tensor,
        attn_mask: tuple[Rows, ...],
    ) -> Tensor:
        """content and embedded points, x and y of the queries, all (B, N, C)."""
        attention, drop = self.self_attn, self.ffn.dropout
        projected = project(attention, content + query_pos, content)
        dropout = attention.dropout if self.training else 0.0
        out = masked_attention(*projected, attention.num_heads, attn_mask, dropout=dropout)
        content = self.norm2(content + drop(attention.out_proj(out)))
        out = self.cross_attn(content, query_x, query_y, memory)
        return self.ffn(self.norm1(content + drop(out)))


class AnchorDecoder(Decoder, nn.ModuleList):
    """The decoder loop; the state_dict lists its layers by their numbers alone."""

    def keep_layers(self, layers: nn.ModuleList) -> None:
        self.extend(layers)

    @property
    def layers(self) -> nn.ModuleList:
        return self

    def position(self, i: int, queries: Queries, memory: FeatureMap) -> dict[str, Tensor]:
        names = ("query_pos", "query_x", "query_y")
        return dict(zip(names, queries.position.chunk(3, -1), strict=True))


def _adapter(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))


class AnchorDETRTransformer(nn.Module):
    """Encoder, decoder, anchor points, patterns and heads, in one module as upstream.

    ``num_query_pattern`` learned contents start from each of ``num_query_position`` points
    (section 3.3). ``spatial_prior``: "learned" points, or a fixed "grid" of the nearest square
    number of points (section 3.2). ``activation`` names a function of ``torch.nn.functional``.

    Raises:
        ValueError: another prior, another ``attention_type`` than "RCDA", or several levels.
    """

    @keep_arguments
    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 1024,
        dropout: float = 0.0,
        activation: str = "relu",
        num_feature_levels: int = 1,
        num_query_position: int = 300,
        num_query_pattern: int = 3,
        spatial_prior: str = "learned",
        attention_type: str = "RCDA",
        num_classes: int = 80,
    ) -> None:
        if attention_type != "RCDA" or num_feature_levels != 1:
            raise ValueError(
                "model.transformer: attention_type='RCDA' with num_feature_levels=1 is what there "
                f"is, got {attention_type!r} with {num_feature_levels}"
            )
        super().__init__()

        def layer(kind: type) -> nn.Module:
            ffn = FeedForward(embed_dim, dim_feedforward, dropout, activation)
            return kind(embed_dim, num_heads, ffn)

        self.embed_dim = embed_dim
        encoder_layer = layer(EncoderLayer)
        self.encoder_layers = nn.ModuleList(
            copy.deepcopy(encoder_layer) for _ in range(num_encoder_layers)
        )
        self.decoder_layers = AnchorDecoder(layer(DecoderLayer), num_decoder_layers)
        self.pattern = nn.Embedding(num_query_pattern, embed_dim)
        self._build_points(num_query_position, spatial_prior)
        self.adapt_pos2d, self.adapt_pos1d = _adapter(embed_dim), _adapter(embed_dim)
        self.class_embed, self.bbox_embed = build_heads(
            embed_dim, num_classes, num_decoder_layers, refine=False, two_stage=False
        )

    def _build_points(self, count: int, spatial_prior: str) -> None:
        if spatial_prior not in ("learned", "grid"):
            raise ValueError(
                f"model.transformer.spatial_prior is 'learned' or 'grid', got {spatial_prior!r}"
            )
        if spatial_prior == "learned":
            self.position = nn.Embedding(count, 2)
            nn.init.uniform_(self.position.weight)
            return
        side = round(count**0.5)
        centres = (torch.arange(side) + 0.5) / side
        self.register_buffer("grid", torch.cartesian_prod(centres, centres), persistent=False)

    @property
    def decoder(self) -> AnchorDecoder:
        return self.decoder_layers

    @property
    def points(self) -> Tensor:
        """The anchor points (P, 2)."""
        return self.position.weight if hasattr(self, "position") else self.grid

    def embed_1d(self, coordinates: Tensor) -> Tensor:
        """Coordinates (...) in [0, 1] to (..., C)."""
        return self.adapt_pos1d(get_sine_pos_embed(coordinates[..., None], self.embed_dim))

    def encode(self, features: Tensor, mask: Tensor, count_padding: bool) -> FeatureMap:
        """Features (B, C, H, W) with mask (B, H, W), True = padding, encoded.

        ``count_padding``: the keys of a row or column are means over padding, too.
        """
        memory = FeatureMap(
            tokens=features.permute(0, 2, 3, 1),
            x=self._axis(mask[:, 0], count_padding),
            y=self._axis(mask[:, :, 0], count_padding),
        )
        for layer in self.encoder_layers:
            memory = layer(memory)
        return memory

    def _axis(self, hidden: Tensor, count_padding: bool) -> Axis:
        inside = (~hidden).float()
        centres = (inside.cumsum(1) - 0.5) / inside.sum(1, keepdim=True)
        counted = torch.ones_like(inside) if count_padding else inside
        return Axis(self.embed_1d(centres), hidden, counted / counted.sum(1, keepdim=True))

    def queries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Contents (N, C), pattern after pattern; places (N, 3C), which embed the points, their x
        and their y, once for all layers, as none moves them; and the points (N, 2)."""
        points, patterns = self.points, self.pattern.weight
        place = self.adapt_pos2d(get_sine_pos_embed(points, self.embed_dim // 2))
        place = torch.cat([place, self.embed_1d(points).flatten(1)], 1)  # (P, 3C)
        content = patterns.repeat_interleave(len(points), 0)
        return content, place.repeat(len(patterns), 1), points.repeat(len(patterns), 1)
