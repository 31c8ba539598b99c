"""The layers of an encoder and of a decoder, and a stack of equal layers.

Source: DETR (Carion et al. 2020), appendix A.3: attention or feed-forward, residual, then norm. The
residual is inside :class:`MultiheadAttention` and the other attentions, and :class:`FFN`.
Legend: B images, N queries, C channels.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from detrex.utils.errors import AssertedError

from .attention import Rows


def copies(module: nn.Module | Sequence[nn.Module], count: int) -> nn.ModuleList:
    """``count`` deep copies of one module, or a list of that many modules as it is.

    Raises:
        AssertedError: for a list of another length.
    """
    if isinstance(module, nn.Module):
        module = [copy.deepcopy(module) for _ in range(count)]
    if len(module) != count:
        raise AssertedError(f"{count} modules are needed, got {len(module)}")
    return nn.ModuleList(module)


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward. ``embed_dim`` is the attention's."""

    operation_order = ("self_attn", "norm", "ffn", "norm")  # the name that upstream's configs give

    def __init__(self, attention: nn.Module, ffn: nn.Module) -> None:
        super().__init__()
        self.embed_dim = attention.embed_dim
        self.attentions = nn.ModuleList([attention])
        self.ffns = nn.ModuleList([ffn])
        self.norms = copies(nn.LayerNorm(self.embed_dim), 2)

    def forward(self, x: Tensor, **inputs: object) -> Tensor:
        """Tokens x (B, S, C); ``inputs``: further arguments of the attention."""
        x = self.norms[0](self.attentions[0](x, **inputs))
        return self.norms[1](self.ffns[0](x))


class DecoderLayer(nn.Module):
    """Self-attention among the queries, cross-attention to the memory, then feed-forward."""

    operation_order = ("self_attn", "norm", "cross_attn", "norm", "ffn", "norm")

    def __init__(self, attention: nn.Module, cross_attention: nn.Module, ffn: nn.Module) -> None:
        super().__init__()
        self.embed_dim = attention.embed_dim
        self.attentions = nn.ModuleList([attention, cross_attention])
        self.ffns = nn.ModuleList([ffn])
        self.norms = copies(nn.LayerNorm(self.embed_dim), 3)

    def forward(
        self, x: Tensor, query_pos: Tensor, attn_mask: tuple[Rows, ...], **memory: object
    ) -> Tensor:
        """Contents x, positions query_pos (B, N, C); ``memory``: arguments of cross-attention."""
        x = self.norms[0](self.attentions[0](x, query_pos=query_pos, attn_mask=attn_mask))
        x = self.norms[1](self.attentions[1](x, query_pos=query_pos, **memory))
        return self.norms[2](self.ffns[0](x))


class TransformerLayerSequence(nn.Module):
    """``num_layers`` deep copies of one layer, or a list of layers, as ``self.layers``.

    A subclass whose state_dict lists them under another name overrides :meth:`keep_layers` and
    returns them as ``layers``.
    """

    def __init__(
        self,
        transformer_layers: nn.Module | Sequence[nn.Module] | None = None,
        num_layers: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(transformer_layers, nn.Module) and num_layers is None:
            raise AssertedError("num_layers is needed to copy one transformer layer")
        if not isinstance(transformer_layers, nn.Module) and num_layers is None:
            num_layers = len(transformer_layers)
        self.num_layers = num_layers
        self.keep_layers(copies(transformer_layers, num_layers))
        self.embed_dim = getattr(self.layers[0], "embed_dim", None)  # a fork's may lack it
        self.pre_norm = getattr(self.layers[0], "pre_norm", False)  # upstream's encoders read it

    def keep_layers(self, layers: nn.ModuleList) -> None:
        """Register the layers."""
        self.layers = layers

    def forward(self, *args, **kwargs) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no forward()")
