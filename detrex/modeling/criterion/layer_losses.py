"""Losses of one layer after the other: the interface that upstream's subclasses build on.

Legend: B images, N queries, K classes, M matches; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from detrex.compat.overrides import ours
from detrex.modeling.matcher import Matches
from detrex.modeling.matcher.matcher import Targets
from detrex.modeling.queries import QueryGroup
from detrex.utils.dist import mean_over_ranks
from detrex.utils.errors import AssertedError

from .sets import DENOISING, Predictions

Layer = dict[str, Tensor]  # upstream's outputs of one layer
Indices = Sequence[tuple[Tensor, Tensor]]  # per image: queries (M,) and its targets (M,)


class LayerLosses:
    """Upstream's methods of ``SetCriterion``.

    outputs: "pred_logits" (B, N, K) and "pred_boxes" (B, N, 4) of one layer, "group" where they are
    not the primary group's and "stage" where they are not the decoder's; ``num_boxes`` is what the
    sums are divided by. A query that is paired with several targets is of the last one's class, and
    its box is compared with each.
    """

    def layer_by_layer(
        self, outputs: dict, sets: Sequence[Predictions], targets: Targets
    ) -> tuple[dict[str, Tensor], list[Indices]]:
        """The losses of ``forward`` and the indices of the layers, the last one at the end. As
        upstream, the last one is matched first."""
        num_boxes, losses, indices = count_objects(outputs, targets), {}, []
        others = outputs.get("aux_outputs", ())
        layers = [(-1, "", outputs), *((i, f"_{i}", layer) for i, layer in enumerate(others))]
        for number, suffix, layer in layers:
            indices.append(self._indices(sets[0], number, alone(layer), targets))
            losses.update(self.losses_of_layer(layer, targets, indices[-1], num_boxes, suffix))
        indices.append(indices.pop(0))
        for proposals in sets[1:]:
            layer = {**outputs["enc_outputs"], "stage": "encoder"}
            if proposals.class_agnostic:
                targets = [{**t, "labels": torch.zeros_like(t["labels"])} for t in targets]
            pairs = self._indices(proposals, 0, layer, targets)
            losses.update(self.losses_of_layer(layer, targets, pairs, num_boxes, "_enc"))
        return losses, indices

    @ours
    def get_loss(
        self,
        loss: str,
        outputs: Layer,
        targets: Targets,
        indices: Indices,
        num_boxes: float | Tensor,
        **kwargs,
    ) -> dict[str, Tensor]:
        """The losses of a kind, "class" or "boxes", unweighted; ``kwargs`` go to its method.

        Raises:
            AssertedError: for another kind.
        """
        methods = {"class": self.loss_labels, "boxes": self.loss_boxes}
        if loss not in methods:
            raise AssertedError(f"criterion: get_loss() knows {list(methods)}, got {loss!r}")
        return methods[loss](outputs, targets, indices, num_boxes, **kwargs)

    @ours
    def loss_labels(
        self, outputs: Layer, targets: Targets, indices: Indices, num_boxes: float | Tensor
    ) -> dict[str, Tensor]:
        """{"loss_class": ...}"""
        return self._of_layer("class", outputs, targets, indices, num_boxes)

    @ours
    def loss_boxes(
        self, outputs: Layer, targets: Targets, indices: Indices, num_boxes: float | Tensor
    ) -> dict[str, Tensor]:
        """{"loss_bbox": ..., "loss_giou": ...}"""
        return self._of_layer("boxes", outputs, targets, indices, num_boxes)

    @ours
    def calculate_dn_loss(
        self, outputs: dict, targets: Targets, aux_num: int, num_boxes: float
    ) -> dict[str, Tensor]:
        """DN-DETR's losses of ``outputs["denoising_output"]``, ``aux_num`` layers before its last:
        "loss_class_dn", "loss_class_dn_0"."""
        blocks, width = (int(outputs[k]) for k in ("denoising_groups", "max_gt_num_per_image"))
        known = outputs["denoising_output"]
        return self.denoising_losses(known, targets, (blocks, width), aux_num, num_boxes)

    def denoising_losses(
        self,
        known: dict,
        targets: Targets,
        blocks: tuple[int, int],
        aux_num: int,
        num_boxes: float,
    ) -> dict[str, Tensor]:
        """Losses of outputs whose targets are known: in each of the ``blocks`` (their number and
        their width) the first queries of an image answer for its targets."""
        count, width = blocks
        indices = []
        for target in targets:
            own = torch.arange(len(target["labels"]), device=known["pred_logits"].device)
            first = torch.arange(count, device=own.device) * width
            indices.append(((first[:, None] + own).flatten(), own.repeat(count)))
        layers = {"_dn": known}
        layers.update({f"_dn_{i}": known["aux_outputs"][i] for i in range(aux_num)})
        losses = {}
        for suffix, layer in layers.items():
            layer = {**layer, "group": DENOISING}
            losses.update(self.losses_of_layer(layer, targets, indices, num_boxes * count, suffix))
        return losses

    def loss_arguments(self, loss: str, outputs: Layer) -> dict[str, object]:
        """Keyword arguments that :meth:`get_loss` gets for a loss of a layer."""
        denoising = outputs.get("group") is DENOISING
        return {"log": False} if denoising and "labels" in loss else {}  # as upstream

    def losses_of_layer(
        self, layer: Layer, targets: Targets, indices: Indices, num_boxes: float, suffix: str
    ) -> dict[str, Tensor]:
        """All losses of a layer whose pairs are known, their names with a suffix."""
        losses = {}
        for loss in self.losses:
            arguments = self.loss_arguments(loss, layer)
            found = self.get_loss(loss, layer, targets, indices, num_boxes, **arguments)
            losses.update({f"{name}{suffix}": value for name, value in found.items()})
        return losses

    def _indices(
        self, predictions: Predictions, number: int, layer: Layer, targets: Targets
    ) -> Indices:
        """The pairs of a layer of a set."""
        known = self.known_matches(predictions, targets)
        if known is not None:
            return indices_of_layer(known, number % len(predictions.logits), targets)
        k = self.queries_per_target(predictions)
        # A matcher with upstream's two arguments decides by itself.
        asked = k and len(inspect.signature(self.matcher.forward).parameters) > 2
        return self.matcher(layer, targets, *([k[number]] if asked else []))

    def _of_layer(
        self,
        kind: str,
        outputs: Layer,
        targets: Targets,
        indices: Indices,
        num_boxes: float | Tensor,
    ) -> dict[str, Tensor]:
        logits, boxes = _both(outputs)
        group = outputs.get("group") or QueryGroup(size=logits.shape[2])
        predictions = Predictions(logits, boxes, group, outputs.get("stage", "decoder"))
        matches = self._as_matches(indices, targets, logits.device)
        if kind == "class":
            matches = _last_of_each_query(matches, logits.shape[2])
        (pairs,) = self._pairs([predictions], [matches], targets)
        losses = self._set_losses(pairs, (kind,), 1 / num_boxes)
        return {f"loss_{name}": torch.unbind_copy(value)[0] for name, value in losses.items()}

    def _as_matches(self, indices: Indices, targets: Targets, device: torch.device) -> Matches:
        image, query = self._get_src_permutation_idx(indices)
        first = torch.tensor([0, *(len(t["labels"]) for t in targets[:-1])]).cumsum(0)
        target = torch.cat([j.cpu() + first[i] for i, (_, j) in enumerate(indices)])
        return Matches(torch.zeros_like(query), image, query, target).to(device)

    @ours
    def _get_src_permutation_idx(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Image and query (M,) of every pair."""
        return _numbered(queries for queries, _ in indices)

    @ours
    def _get_tgt_permutation_idx(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Image and target (M,), counted within its image, of every pair."""
        return _numbered(targets for _, targets in indices)


def alone(outputs: dict) -> Layer:
    """Of upstream's nested dict the last layer, which is all that a matcher gets."""
    return {k: v for k, v in outputs.items() if k not in ("aux_outputs", "enc_outputs")}


def count_objects(outputs: dict, targets: Targets) -> float:
    """Objects per process, at least one."""
    count = sum(len(target["labels"]) for target in targets)
    return mean_over_ranks(count, outputs["pred_logits"].device).clamp(min=1).item()


def indices_of_layer(matches: Matches, layer: int, targets: Targets) -> Indices:
    """Of a set's matches those of a layer, by image."""
    first, indices = 0, []
    for image, target in enumerate(targets):
        own = (matches.layer == layer) & (matches.image == image)
        indices.append((matches.query[own], matches.target[own] - first))
        first += len(target["labels"])
    return indices


def _both(outputs: Layer) -> tuple[Tensor, Tensor]:
    """Logits (1, B, N, K) and boxes (1, B, N, 4); the one that is missing is NaN, as is a loss that
    reads it."""
    layer = {k: outputs[k][None] for k in ("pred_logits", "pred_boxes") if k in outputs}
    first = next(iter(layer.values()))
    missing = first.new_full((*first.shape[:3], 4), torch.nan)
    return layer.get("pred_logits", missing), layer.get("pred_boxes", missing)


def _last_of_each_query(matches: Matches, queries: int) -> Matches:
    """One match of every query of a layer, the last."""
    place = matches.image * queries + matches.query
    number = torch.arange(len(place), device=place.device)
    last = number.new_zeros(int(place.max()) + 1 if len(place) else 0)
    keep = last.scatter_reduce(0, place, number, "amax")[place] == number
    return Matches(*(x[keep] for x in matches))


def _numbered(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    parts = list(parts)
    images = [torch.full_like(part, i) for i, part in enumerate(parts)]
    return torch.cat(images), torch.cat(parts)
