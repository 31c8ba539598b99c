"""Encoder, decoder and transformer with dense attention over one feature level.

Source: DETR (Carion et al. 2020), section 3.2 and appendix A.3.
Legend: B images, S tokens, N queries, C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from detrex.compat.overrides import refuses
from detrex.compat.transformer_layer import take_upstreams_call
from detrex.layers import (
    FFN,
    DecoderLayer,
    EncoderLayer,
    MultiheadAttention,
    TransformerLayerSequence,
)
from detrex.modeling.queries import Queries
from detrex.utils.arguments import keep_arguments

from .decoder import Decoder

# All queries start with the same content.
DETR_ATTENTIONS = (partial(MultiheadAttention, fused=False), MultiheadAttention)


@dataclass
class DenseMemory:
    """Tokens of one level.

    tokens and position (B, S, C); mask (B, S), True = padding, or None to attend to padding too.
    """

    tokens: Tensor
    position: Tensor
    mask: Tensor | None

    def cross_attention_inputs(self) -> dict:
        """Keyword arguments of cross-attention."""
        return {
            "key": self.tokens,
            "value": self.tokens,
            "key_pos": self.position,
            "key_padding_mask": self.mask,
        }


class DenseEncoder(TransformerLayerSequence):
    """Encoder layers in which every token attends to every other.

    ``activation`` is the feed-forward's, ReLU by default. ``batch_first`` repeats upstream's
    argument without effect: tokens are (B, S, C) here.
    """

    @keep_arguments
    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        attn_dropout: float = 0.1,
        feedforward_dim: int = 2048,
        ffn_dropout: float = 0.1,
        activation: nn.Module | None = None,
        post_norm: bool = False,
        num_layers: int = 6,
        batch_first: bool = False,
    ) -> None:
        attention = MultiheadAttention(embed_dim, num_heads, attn_dropout, batch_first=True)
        ffn = FFN(embed_dim, feedforward_dim, ffn_drop=ffn_dropout, activation=activation)
        super().__init__(EncoderLayer(attention, ffn), num_layers)
        take_upstreams_call(self)  # a subclass with upstream's forward
        self.post_norm_layer = nn.LayerNorm(embed_dim) if post_norm else None

    def forward(self, memory: DenseMemory) -> Tensor:
        """Encoded tokens (B, S, C)."""
        x = memory.tokens
        for layer in self.layers:
            position = self.scale_position(x, memory.position)
            x = layer(x, query_pos=position, key_padding_mask=memory.mask)
        return x if self.post_norm_layer is None else self.post_norm_layer(x)

    def scale_position(self, x: Tensor, position: Tensor) -> Tensor:
        """The positions (B, S, C) that a layer adds to its input x (B, S, C)."""
        return position


class DenseDecoder(Decoder):
    """Dense self- and cross-attention; the heads see the content behind a final norm.

    ``attentions`` (self, cross) default to DETR's; ``modules``: a subclass's modules by attribute
    name, shared by all layers. ``return_intermediate=False`` is upstream's way to predict with the
    last layer only; here that is the model's ``aux_loss=False``.
    """

    @keep_arguments
    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        attn_dropout: float = 0.1,
        feedforward_dim: int = 2048,
        ffn_dropout: float = 0.1,
        activation: nn.Module | None = None,
        num_layers: int = 6,
        batch_first: bool = False,
        post_norm: bool = True,
        return_intermediate: bool = True,
        attentions: Sequence[Callable[..., nn.Module]] = DETR_ATTENTIONS,
        modules: Mapping[str, nn.Module] | None = None,
    ) -> None:
        if not return_intermediate:
            raise ValueError("return_intermediate=False is not supported: set model.aux_loss=False")
        options = dict(num_heads=num_heads, attn_drop=attn_dropout, batch_first=True)
        both = (attention(embed_dim, **options) for attention in attentions)
        ffn = FFN(embed_dim, feedforward_dim, ffn_drop=ffn_dropout, activation=activation)
        super().__init__(DecoderLayer(*both, ffn), num_layers)
        for name, module in (modules or {}).items():
            self.add_module(name, module)
        self.post_norm_layer = nn.LayerNorm(embed_dim) if post_norm else None

    def position(self, i: int, queries: Queries, memory: DenseMemory) -> dict[str, Tensor]:
        return {"query_pos": queries.position}

    def readout(self, content: Tensor) -> Tensor:
        return content if self.post_norm_layer is None else self.post_norm_layer(content)


@refuses("model.transformer")  # methods that upstream's subclasses call
class DenseTransformer(nn.Module):
    """Encoder and decoder; matrices start Xavier-uniform."""

    def __init__(self, encoder: DenseEncoder, decoder: DenseDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.embed_dim = encoder.embed_dim
        self.init_weights()

    def init_weights(self) -> None:
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def encode(
        self, features: Sequence[Tensor], masks: Sequence[Tensor], positions: Sequence[Tensor]
    ) -> DenseMemory:
        """The encoded memory of one level (B, C, H, W) with its padding mask (B, H, W) and
        position (B, C, H, W)."""
        (feature,), (mask,), (position,) = features, masks, positions
        memory = DenseMemory(
            tokens=feature.flatten(2).transpose(1, 2),
            position=position.flatten(2).transpose(1, 2),
            mask=mask.flatten(1),
        )
        memory.tokens = self.encoder(memory)
        return memory
