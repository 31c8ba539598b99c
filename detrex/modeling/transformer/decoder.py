"""The one decoder loop. A method changes what happens in its seams, never the loop.

Legend: B images, L layers, N queries, C channels, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from detrex.compat.transformer_layer import take_upstreams_call
from detrex.layers import TransformerLayerSequence
from detrex.layers.attention import Rows
from detrex.modeling.heads import Heads
from detrex.modeling.predictions import Outputs
from detrex.modeling.queries import Queries, attention_rows
from detrex.utils import inverse_sigmoid


def recomputed(layers: Iterable[nn.Module], use_checkpoint: bool) -> list[Callable[..., Tensor]]:
    """The layers; with ``use_checkpoint`` their activations are computed again in backward."""
    if use_checkpoint and torch.is_grad_enabled():
        return [partial(checkpoint, layer, use_reentrant=False) for layer in layers]
    return list(layers)


class Decoder(TransformerLayerSequence):
    """Layer by layer: attend, predict, refine, and let the method re-arrange the queries.

    A method overrides :meth:`position` (inputs of a layer that depend on where its queries look),
    :meth:`readout` (what the heads see) or :meth:`after_layer`. Inference runs the first
    ``eval_layers`` layers; None: all. Boxes are refined from coordinates at least ``eps`` away from
    0 and 1. ``outputs_type``: what the outputs of all layers are stacked in.
    """

    eval_layers: int | None = None
    eps = 1e-3
    outputs_type: type[NamedTuple] = Outputs

    def __init__(
        self,
        transformer_layers: nn.Module | Sequence[nn.Module],
        num_layers: int | None = None,
        look_forward_twice: bool = False,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__(transformer_layers, num_layers)
        take_upstreams_call(self)  # a subclass with upstream's forward
        self.look_forward_twice = look_forward_twice
        self.use_checkpoint = use_checkpoint
        # Upstream stores the model's heads a second time here; see store_heads.
        self.bbox_embed: nn.ModuleList | None = None
        self.class_embed: nn.ModuleList | None = None

    def forward(self, queries: Queries, memory: object, heads: Heads) -> Outputs:
        """The outputs of all layers.

        ``memory.cross_attention_inputs()`` are arguments of every layer; ``heads(i, x)`` predicts.
        """
        rows = attention_rows(queries.groups, queries.content.device)
        keys = memory.cross_attention_inputs()
        layers = list(self.layers)[: None if self.training else self.eval_layers]
        outputs = []
        for i, layer in enumerate(recomputed(layers, self.use_checkpoint)):
            inputs = {**keys, **self.position(i, queries, memory)}
            inputs["attn_mask"] = self.attention_rows(i, queries, rows)
            queries = replace(queries, content=layer(queries.content, **inputs))
            output, queries = self.predict(i, queries, heads)
            outputs.append(output)
            if i < len(layers) - 1:
                queries = self.after_layer(i, queries, output[0])
        return self.outputs_type(*map(torch.stack, zip(*outputs, strict=True)))

    def position(self, i: int, queries: Queries, memory: object) -> dict[str, Tensor]:
        """Keyword arguments of layer ``i`` that depend on where its queries look."""
        raise NotImplementedError

    def attention_rows(self, i: int, queries: Queries, rows: tuple[Rows, ...]) -> tuple[Rows, ...]:
        """The mask of layer ``i``'s self-attention; a method may add a bias of the logits."""
        return rows

    def predict(self, i: int, queries: Queries, heads: Heads) -> tuple[tuple[Tensor, ...], Queries]:
        """Logits, boxes and IoU logits of layer ``i``, and the queries with boxes for the next."""
        seen = self.readout(queries.content)
        logits, delta, *iou_logits = heads(i, seen)
        if queries.boxes is None:  # DETR: the offset is the box
            return (logits, delta.sigmoid(), *iou_logits), queries
        is_traced = queries.traced is not None
        start = inverse_sigmoid(queries.traced if is_traced else queries.boxes, self.eps)
        if start.shape[-1] == 2:  # a point: only the centre moves, the size is the offset itself
            start = F.pad(start, (0, 2))
        boxes = (delta + start).sigmoid()
        if heads.refine:
            if seen is not queries.content:
                # As upstream: the next layer's boxes are made from the content before its norm.
                delta = heads.bbox_embed[i](queries.content).float()
            moved = (delta + (start.detach() if is_traced else start)).sigmoid()
            traced = moved if self.look_forward_twice else None
            queries = replace(queries, boxes=moved.detach(), traced=traced)
        return (logits, boxes, *iou_logits), queries

    def readout(self, content: Tensor) -> Tensor:
        """What the heads see of the content (B, N, C): a final norm belongs here."""
        return content

    def after_layer(self, i: int, queries: Queries, logits: Tensor) -> Queries:
        """The queries that layer ``i + 1`` starts from; logits (B, N, K) are those of layer i."""
        return queries
