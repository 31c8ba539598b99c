"""Upstream's transformer layer: modules run in an order that a config gives.

This toolbox's layers are written out in :mod:`detrex.layers.transformer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from detrex.compat.overrides import takes_upstreams_arguments
from detrex.layers.transformer import copies
from detrex.utils.errors import AssertedError

OPERATIONS = ("self_attn", "cross_attn", "norm", "ffn")


def take_upstreams_call(stack: nn.Module) -> None:
    """If a subclass of an encoder or decoder has upstream's ``forward``, replace its layers by such
    with upstream's call; the parameters and their names stay."""
    if hasattr(stack.layers[0], "operation_order") and takes_upstreams_arguments(stack):
        stack.layers = nn.ModuleList(
            BaseTransformerLayer(
                list(layer.attentions), list(layer.ffns), list(layer.norms), layer.operation_order
            )
            for layer in stack.layers
        )


class BaseTransformerLayer(nn.Module):
    """Runs attention, norm and feed-forward modules in ``operation_order``.

    A leading "norm" makes it a pre-norm layer: residuals then start before the norm.

    Raises:
        AssertedError: for an unknown operation or a list of modules of the wrong length.
    """

    def __init__(
        self,
        attn: nn.Module | Sequence[nn.Module],
        ffn: nn.Module,
        norm: nn.Module,
        operation_order: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        order = tuple(operation_order or ())
        if not order or set(order) - set(OPERATIONS):
            raise AssertedError(f"operation_order must be made of {OPERATIONS}, got {order}")
        self.operation_order = order
        self.pre_norm = order[0] == "norm"
        uses = {name: order.count(name) for name in OPERATIONS}
        self.num_attn = uses["self_attn"] + uses["cross_attn"]
        self.attentions = copies(attn, self.num_attn)
        self.embed_dim = self.attentions[0].embed_dim
        self.ffns = copies(ffn, uses["ffn"])
        self.norms = copies(norm, uses["norm"])

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        attn_masks: Sequence[Tensor | None] | Tensor | None = None,
        query_key_padding_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        **kwargs,
    ) -> Tensor:
        """query (B, N, C); attn_masks: one per attention, or one for all; ``kwargs`` go to each."""
        attentions, masks = iter(self.attentions), iter(self._masks(attn_masks))
        self_inputs = dict(
            query_pos=query_pos, key_pos=query_pos, key_padding_mask=query_key_padding_mask
        )
        cross = dict(query_pos=query_pos, key_pos=key_pos, key_padding_mask=key_padding_mask)

        def self_attn(x: Tensor, residual: Tensor | None) -> Tensor:
            return next(attentions)(
                x, x, x, residual, attn_mask=next(masks), **self_inputs, **kwargs
            )

        def cross_attn(x: Tensor, residual: Tensor | None) -> Tensor:
            inputs = {"attn_mask": next(masks), **cross, **kwargs}
            return next(attentions)(x, key, value, residual, **inputs)

        return self._run(query, {"self_attn": self_attn, "cross_attn": cross_attn})

    def _run(self, x: Tensor, attend: dict[str, Callable]) -> Tensor:
        """Run the operations in order, each with the start of its residual (None: its input)."""
        norms, ffns = iter(self.norms), iter(self.ffns)
        start = x
        for operation in self.operation_order:
            if operation == "norm":
                x = next(norms)(x)
                continue
            identity = start if self.pre_norm else None
            if operation == "ffn":  # as upstream: the next residual starts where this one did
                x = next(ffns)(x, identity)
            else:
                x = start = attend[operation](x, identity)
        return x

    def _masks(self, attn_masks: Sequence[Tensor | None] | Tensor | None) -> list[Tensor | None]:
        if attn_masks is None or isinstance(attn_masks, Tensor):
            return [attn_masks] * self.num_attn
        if len(attn_masks) != self.num_attn:
            raise AssertedError(
                f"{self.num_attn} attentions need a mask each, got {len(attn_masks)}"
            )
        return list(attn_masks)
