"""Multi-scale deformable encoder, decoder and two-stage proposals.

Source: Deformable DETR (Zhu et al. 2021), sections 4.1-4.2 and appendix A.4.
Legend: B images, L levels, S tokens of all levels, N queries, C channels, K classes;
boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from detrex.compat.overrides import refuses
from detrex.compat.transformer_layer import take_upstreams_call
from detrex.layers import (
    FFN,
    MLP,
    DecoderLayer,
    EncoderLayer,
    MultiheadAttention,
    MultiScaleDeformableAttention,
    TransformerLayerSequence,
    get_sine_pos_embed,
)
from detrex.layers.attention import Rows
from detrex.modeling.heads import Heads
from detrex.modeling.queries import Queries
from detrex.utils.arguments import keep_arguments
from detrex.utils.errors import AssertedError

from .decoder import Decoder, recomputed
from .memory import Memory, ProposesBoxes
from .relation import PositionRelation, related_rows

POST_NORM = ("self_attn", "norm", "ffn", "norm")


class DeformableEncoder(TransformerLayerSequence):
    """Encoder layers whose self-attention samples all levels.

    ``post_norm`` adds a final LayerNorm; ``use_checkpoint`` trades time for memory;
    ``operation_order`` repeats that of the layers (an argument of DAB-Deformable-DETR's).
    """

    @keep_arguments
    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        feedforward_dim: int = 1024,
        attn_dropout: float = 0.1,
        ffn_dropout: float = 0.1,
        num_layers: int = 6,
        post_norm: bool = False,
        num_feature_levels: int = 4,
        use_checkpoint: bool = False,
        operation_order: Sequence[str] = POST_NORM,
    ) -> None:
        if tuple(operation_order) != POST_NORM:
            raise AssertedError(f"operation_order is {POST_NORM} here, got {operation_order}")
        attention = MultiScaleDeformableAttention(
            embed_dim, num_heads, num_feature_levels, dropout=attn_dropout, batch_first=True
        )
        ffn = FFN(embed_dim, feedforward_dim, ffn_drop=ffn_dropout)
        super().__init__(EncoderLayer(attention, ffn), num_layers)
        take_upstreams_call(self)  # a subclass with upstream's forward
        self.post_norm_layer = nn.LayerNorm(embed_dim) if post_norm else None
        self.use_checkpoint = use_checkpoint

    def forward(self, memory: Memory, position: Tensor) -> Tensor:
        """Encoded tokens (B, S, C); position (B, S, C) embeds place and level."""
        outputs = [memory.tokens]
        inputs = dict(
            query_pos=position,
            key_padding_mask=memory.mask,
            spatial_shapes=memory.shapes,
            reference_points=memory.on_levels(memory.pixel_centres),
        )
        for layer in recomputed(self.layers, self.use_checkpoint):
            outputs.append(layer(outputs[-1], **inputs))
        x = self.fuse(outputs)
        return x if self.post_norm_layer is None else self.post_norm_layer(x)

    def fuse(self, outputs: Sequence[Tensor]) -> Tensor:
        """Tokens (B, S, C) for the decoder, from the encoder's input and the outputs of all its
        layers, (B, S, C) each."""
        return outputs[-1]


class DeformableDecoder(Decoder):
    """Dense self-attention among queries, deformable cross-attention to the memory.

    ``return_intermediate=False`` is upstream's way to predict with the last layer only; here the
    detector decides which layers are supervised (``aux_loss``), so it must stay True.
    ``box_relation``: from the second layer on, self-attention has Relation-DETR's bias.
    """

    @keep_arguments
    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        feedforward_dim: int = 1024,
        attn_dropout: float = 0.1,
        ffn_dropout: float = 0.1,
        num_layers: int = 6,
        return_intermediate: bool = True,
        num_feature_levels: int = 4,
        look_forward_twice: bool = False,
        use_checkpoint: bool = False,
        box_relation: bool = False,
    ) -> None:
        if not return_intermediate:
            raise ValueError("return_intermediate=False is not supported: set model.aux_loss=False")
        attention = MultiheadAttention(embed_dim, num_heads, attn_dropout, batch_first=True)
        cross_attention = MultiScaleDeformableAttention(
            embed_dim, num_heads, num_feature_levels, dropout=attn_dropout, batch_first=True
        )
        ffn = FFN(embed_dim, feedforward_dim, ffn_drop=ffn_dropout)
        layer = DecoderLayer(attention, cross_attention, ffn)
        super().__init__(layer, num_layers, look_forward_twice, use_checkpoint)
        self.position_relation_embedding = PositionRelation(num_heads) if box_relation else None

    def attention_rows(self, i: int, queries: Queries, rows: tuple[Rows, ...]) -> tuple[Rows, ...]:
        if i == 0 or self.position_relation_embedding is None:
            return rows
        return tuple(related_rows(rows, queries, self.position_relation_embedding))

    def predict(self, i: int, queries: Queries, heads: Heads) -> tuple[tuple[Tensor, ...], Queries]:
        output, moved = super().predict(i, queries, heads)
        if self.position_relation_embedding is not None:
            source = queries.trail[-1] if queries.trail else queries.boxes
            moved = replace(moved, trail=(source, output[1].detach()))
        return output, moved

    def position(self, i: int, queries: Queries, memory: Memory) -> dict[str, Tensor]:
        return {
            "query_pos": queries.position,
            "reference_points": memory.on_levels(queries.boxes),
        }


class AnchorBoxDecoder(DeformableDecoder):
    """Position = MLP(sine(box)), made anew for every layer (DAB-DETR, Liu et al., ICLR 2022,
    section 4.2, as used by DAB-Deformable-DETR and DINO).

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
        # As upstream: in training boxes are relative to the padded image. At inference they are
        # relative to the image itself, so that detections do not depend on the padding.
        relative = boxes[:, :, 0] if self.training else queries.boxes
        sine = get_sine_pos_embed(relative, self.embed_dim // 2)
        position = self.ref_point_head(sine)  # (B, N, C)
        if self.query_scale is not None and i > 0:
            position = position * self.query_scale(queries.content)
        return {"query_pos": position, "reference_points": boxes}


@refuses("model.transformer")  # methods that upstream's subclasses call
class MultiScaleTransformer(ProposesBoxes, nn.Module):
    """Encoder, decoder and, with ``as_two_stage``, the layers that propose boxes from the tokens.

    ``learned_contents``: number of learned query contents, ``tgt_embed`` (N, C). A subclass adds
    the layers that turn proposals or learned positions into queries.
    """

    @keep_arguments
    def __init__(
        self,
        encoder: DeformableEncoder,
        decoder: DeformableDecoder,
        num_feature_levels: int = 4,
        as_two_stage: bool = False,
        two_stage_num_proposals: int = 300,
        learned_contents: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.as_two_stage = as_two_stage
        self.two_stage_num_proposals = two_stage_num_proposals
        self.embed_dim = dim = encoder.embed_dim
        self.level_embeds = nn.Parameter(torch.empty(num_feature_levels, dim))
        self.tgt_embed = nn.Embedding(learned_contents, dim) if learned_contents else None
        if as_two_stage:
            self.build_proposals(dim)
        self.init_weights()

    def init_weights(self) -> None:
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, MultiScaleDeformableAttention):
                module.init_weights()
        nn.init.normal_(self.level_embeds)

    def encode(
        self, features: Sequence[Tensor], masks: Sequence[Tensor], positions: Sequence[Tensor]
    ) -> Memory:
        """Levels (B, C, H, W), masks (B, H, W) and positions (B, C, H, W) to encoded tokens."""
        position = torch.cat(
            [
                p.flatten(2).transpose(1, 2) + level
                for p, level in zip(positions, self.level_embeds, strict=True)
            ],
            1,
        )
        memory = Memory.of_levels(features, masks)
        memory.tokens = self.encoder(memory, position)
        return memory


class DeformableTransformer(MultiScaleTransformer):
    """Queries start from the encoder's best boxes (``as_two_stage``), else from learned points.

    ``mixed_selection``: upstream's configs repeat the model's switch here; it has no effect.
    """

    @keep_arguments
    def __init__(self, *, mixed_selection: bool | None = None, **multi_scale) -> None:
        super().__init__(**multi_scale)
        self.mixed_selection = mixed_selection
        dim = self.embed_dim
        if self.as_two_stage:
            self.pos_trans = nn.Linear(dim * 2, dim * 2)
            self.pos_trans_norm = nn.LayerNorm(dim * 2)
            nn.init.xavier_uniform_(self.pos_trans.weight)
        else:
            self.reference_points = nn.Linear(dim, 2)
            nn.init.xavier_uniform_(self.reference_points.weight)
            nn.init.zeros_(self.reference_points.bias)

    def embed_boxes(self, unsigmoided: Tensor) -> tuple[Tensor, Tensor]:
        """Position and content, both (B, N, C), made from boxes (B, N, 4) before the sigmoid."""
        sine = get_sine_pos_embed(unsigmoided.sigmoid(), self.embed_dim // 2, exchange_xy=False)
        return self.pos_trans_norm(self.pos_trans(sine)).chunk(2, -1)
