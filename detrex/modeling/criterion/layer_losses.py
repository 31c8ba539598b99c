"""Losses of one layer whose pairs are known: the interface that upstream's subclasses build on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from detrex.modeling.matcher import Matches
from detrex.modeling.matcher.matcher import Targets

from .sets import sets_from_outputs

Layer = dict[str, Tensor]  # upstream's outputs of one layer
Indices = Sequence[tuple[Tensor, Tensor]]  # per image: queries (M,) and its targets (M,)


class LayerLosses:
    """Upstream's methods of ``SetCriterion``.

    outputs: "pred_logits" (B, N, K) and "pred_boxes" (B, N, 4) of one layer; ``num_boxes`` is what
    the sums are divided by. A criterion calls them from a ``forward`` of its own, for a detector of
    its own: our detectors call ``supervise``, which takes all layers at once.
    """

    def get_loss(
        self,
        loss: str,
        outputs: Layer,
        targets: Targets,
        indices: Indices,
        num_boxes: float | Tensor,
        **kwargs,
    ) -> dict[str, Tensor]:
        """The losses of a kind, "class" or "boxes", unweighted; ``kwargs`` go to its method."""
        method = {"class": self.loss_labels, "boxes": self.loss_boxes}[loss]
        return method(outputs, targets, indices, num_boxes, **kwargs)

    def loss_labels(
        self, outputs: Layer, targets: Targets, indices: Indices, num_boxes: float | Tensor
    ) -> dict[str, Tensor]:
        """{"loss_class": ...}"""
        found = self._of_layer(outputs, targets, indices, num_boxes)
        return {"loss_class": found["loss_class"]}

    def loss_boxes(
        self, outputs: Layer, targets: Targets, indices: Indices, num_boxes: float | Tensor
    ) -> dict[str, Tensor]:
        """{"loss_bbox": ..., "loss_giou": ...}"""
        found = self._of_layer(outputs, targets, indices, num_boxes)
        return {name: found[name] for name in ("loss_bbox", "loss_giou")}

    def _of_layer(
        self, outputs: Layer, targets: Targets, indices: Indices, num_boxes: float | Tensor
    ) -> dict[str, Tensor]:
        layer = {name: outputs[name] for name in ("pred_logits", "pred_boxes")}
        (predictions,) = sets_from_outputs(layer)
        image, query = self._get_src_permutation_idx(indices)
        first = torch.tensor([0, *(len(t["labels"]) for t in targets[:-1])]).cumsum(0)
        target = torch.cat([j.cpu() + first[i] for i, (_, j) in enumerate(indices)])
        device = predictions.logits.device
        matches = Matches(torch.zeros_like(query), image, query, target).to(device)
        (pairs,) = self._pairs([predictions], [matches], targets)
        count = torch.as_tensor(num_boxes, dtype=torch.float32, device=device)
        return self._set_losses(pairs, self._negatives(predictions), count)

    def _get_src_permutation_idx(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Image and query (M,) of every pair."""
        return _numbered(queries for queries, _ in indices)

    def _get_tgt_permutation_idx(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Image and target (M,), counted within its image, of every pair."""
        return _numbered(targets for _, targets in indices)


def _numbered(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    parts = list(parts)
    images = [torch.full_like(part, i) for i, part in enumerate(parts)]
    return torch.cat(images), torch.cat(parts)
