"""A criterion's losses layer by layer: the methods that subclasses written for upstream override.

Legend: B images, N queries, K classes, M matches; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from detrex.compat.outputs import (
    DENOISING,
    Indices,
    Layer,
    alone,
    are_even,
    count_objects,
    indices_of_layer,
    sets_from_outputs,
)
from detrex.compat.overrides import LAYER_METHODS, overridden
from detrex.modeling.matcher import Matches
from detrex.modeling.matcher.matcher import Targets
from detrex.modeling.predictions import Predictions
from detrex.modeling.queries import QueryGroup
from detrex.utils.errors import AssertedError

ABSENT: dict = {}  # no denoising, as opposed to a batch with nothing to denoise


class LayerLosses:
    """Upstream's methods of ``SetCriterion``.

    outputs: "pred_logits" (B, N, K) and "pred_boxes" (B, N, 4) of one layer, "group" where they are
    not the primary group's and "stage" where they are not the decoder's; ``num_boxes`` is what the
    sums are divided by. A query that is paired with several targets is of the last one's class, and
    its box is compared with each.
    """

    def forward(
        self, outputs: dict, targets: Targets, return_indices: bool = False
    ) -> dict[str, Tensor] | tuple[dict[str, Tensor], list]:
        """Upstream's format: "pred_logits" (B, N, K), "pred_boxes" (B, N, 4), and optionally
        "aux_outputs" (a list of such dicts), "enc_outputs" (one) and, as DN-DETR has them,
        "denoising_output" (as outputs), "denoising_groups" and "max_gt_num_per_image".

        Computed for all layers at once, unless the criterion or the matcher overrides a method for
        one layer. The indices are those of the layers in their order, the last one at the end.
        """
        # As upstream: proposals are trained for class 0 unless a subclass says otherwise.
        sets = sets_from_outputs(outputs, getattr(self, "two_stage_binary_cls", True))
        methods = overridden(self, LAYER_METHODS) + overridden(self.matcher, ("forward", "match"))
        if methods or not are_even(sets[0]):
            losses, indices = self.layer_by_layer(outputs, sets, targets)
        else:
            losses = self.losses_of_sets(sets, targets)
            layers = [*outputs.get("aux_outputs", ()), outputs] if return_indices else []
            indices = [self.matcher(alone(layer), targets) for layer in layers]
        if "denoising_output" in outputs:
            layers = len(outputs.get("aux_outputs", ()))
            num_boxes = count_objects(outputs, targets)
            losses.update(self.calculate_dn_loss(outputs, targets, layers, num_boxes))
        return (losses, indices) if return_indices else losses

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

    def loss_labels(
        self, outputs: Layer, targets: Targets, indices: Indices, num_boxes: float | Tensor
    ) -> dict[str, Tensor]:
        """{"loss_class": ...}"""
        return self._of_layer("class", outputs, targets, indices, num_boxes)

    def loss_boxes(
        self, outputs: Layer, targets: Targets, indices: Indices, num_boxes: float | Tensor
    ) -> dict[str, Tensor]:
        """{"loss_bbox": ..., "loss_giou": ...}"""
        return self._of_layer("boxes", outputs, targets, indices, num_boxes)

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
        their width) the first queries of an image are assigned to its targets."""
        count, width = blocks
        indices = []
        for target in targets:
            number = torch.arange(len(target["labels"]), device=known["pred_logits"].device)
            first = torch.arange(count, device=number.device) * width
            indices.append(((first[:, None] + number).flatten(), number.repeat(count)))
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
            values = self.get_loss(loss, layer, targets, indices, num_boxes, **arguments)
            losses.update({f"{name}{suffix}": value for name, value in values.items()})
        return losses

    def _indices(
        self, predictions: Predictions, number: int, layer: Layer, targets: Targets
    ) -> Indices:
        """The pairs of a layer of a set."""
        known = self.known_matches(predictions, targets)
        if known is not None:
            return indices_of_layer(known.wait(), number % len(predictions.logits), targets)
        k = self.queries_per_target(predictions)
        # A matcher with upstream's two arguments chooses k itself.
        takes_k = k and len(inspect.signature(self.matcher.forward).parameters) > 2
        return self.matcher(layer, targets, *([k[number]] if takes_k else []))

    def _of_layer(
        self,
        kind: str,
        outputs: Layer,
        targets: Targets,
        indices: Indices,
        num_boxes: float | Tensor,
    ) -> dict[str, Tensor]:
        logits, boxes = _both(outputs)
        stage = outputs.get("stage", "decoder")
        name = "_enc" if stage == "encoder" else ""
        group = outputs.get("group") or QueryGroup(name, logits.shape[2])
        predictions = Predictions(logits, boxes, group, stage)
        matches = self._as_matches(indices, targets, logits.device)
        if kind == "class":
            matches = _last_of_each_query(matches, logits.shape[2])
        (pairs,) = self.match_pairs([predictions], [matches], targets)
        losses = self.losses_of_pairs(pairs, (kind,), 1 / num_boxes)
        return {f"loss_{name}": torch.unbind_copy(value)[0] for name, value in losses.items()}

    def _as_matches(self, indices: Indices, targets: Targets, device: torch.device) -> Matches:
        image, query = self._get_src_permutation_idx(indices)
        first = torch.tensor([0, *(len(t["labels"]) for t in targets[:-1])]).cumsum(0)
        target = torch.cat([j.cpu() + first[i] for i, (_, j) in enumerate(indices)])
        return Matches(torch.zeros_like(query), image, query, target).to(device)

    def _get_src_permutation_idx(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Image and query (M,) of every pair."""
        return _numbered(queries for queries, _ in indices)

    def _get_tgt_permutation_idx(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Image and target (M,), counted within its image, of every pair."""
        return _numbered(targets for _, targets in indices)


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


def _numbered(indices: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    indices = list(indices)
    images = [torch.full_like(index, i) for i, index in enumerate(indices)]
    return torch.cat(images), torch.cat(indices)


class DenoisingLosses:
    """DINO's part of upstream's criteria: denoising queries as a third argument of ``forward``."""

    def forward(self, outputs: dict, targets: Targets, dn_metas: dict | None = ABSENT) -> dict:
        """Upstream's format, with DINO's denoising queries in ``dn_metas``: "dn_num" blocks, each
        "single_padding" wide, and their "output_known_lbs_bboxes", None if there are none."""
        losses = super().forward(outputs, targets)
        if dn_metas is not ABSENT:
            layers, num_boxes = len(outputs.get("aux_outputs", ())), count_objects(outputs, targets)
            losses.update(self.compute_dn_loss(dn_metas, targets, layers, num_boxes))
        return losses

    def compute_dn_loss(
        self, dn_metas: dict | None, targets: Targets, aux_num: int, num_boxes: float
    ) -> dict[str, Tensor]:
        """DINO's denoising losses: "loss_class_dn", "loss_class_dn_0"; zeros without queries."""
        if not dn_metas or "output_known_lbs_bboxes" not in dn_metas:
            kinds, numbers = ("class", "bbox", "giou"), ("", *(f"_{i}" for i in range(aux_num)))
            zeros = targets[0]["boxes"].new_zeros(len(kinds) * len(numbers))
            names = [f"loss_{kind}_dn{number}" for kind in kinds for number in numbers]
            return dict(zip(names, torch.unbind_copy(zeros), strict=True))
        known, blocks = dn_metas["output_known_lbs_bboxes"], dn_metas["dn_num"]
        shape = blocks, dn_metas["single_padding"]
        return self.denoising_losses(known, targets, shape, aux_num, num_boxes)
