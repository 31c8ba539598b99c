"""A detector's losses as upstream computes them, from dicts of outputs and one layer after another.

Slower than ``criterion.losses_of_sets``: for parts that override upstream's methods.

Legend: B images, L layers, N queries, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from detrex.compat.outputs import count_objects, indices_of_layer
from detrex.modeling.criterion import Predictions, SetCriterion
from detrex.modeling.criterion.criterion import of_nearest_name
from detrex.modeling.matcher import Matches
from detrex.modeling.matcher.matcher import Targets
from detrex.modeling.queries import QueryGroup
from detrex.utils.errors import InputError


def losses_layer_by_layer(
    detector: nn.Module, sets: Sequence[Predictions], targets: Targets
) -> dict[str, Tensor]:
    """The weighted losses of all sets.

    ``detector.criterion`` gets what upstream's detectors pass: "pred_logits", "pred_boxes",
    "aux_outputs", "enc_outputs" and denoising queries. For sets that upstream does not have,
    ``get_loss`` is called with the pairs of :class:`SetCriterion`.

    Raises:
        InputError: an IoU branch, or a set that the criterion cannot supervise.
    """
    if detector.iou_embed is not None:
        raise InputError(
            "model.iou_branch needs a criterion and a matcher that override no method of upstream's"
        )
    criterion = detector.criterion
    sets = [replace(s, logits=s.logits.float(), boxes=s.boxes.float()) for s in sets]
    primary = _primary(detector, sets, targets)
    losses = _weighted(criterion, primary)
    for s in sets[1:]:
        if s.stage == "encoder" or s.group.name == "_dn":
            continue
        matches = _known(criterion, s, targets)
        if matches is None:
            values = _matched(detector, s, targets)
        else:
            values = _of_pairs(criterion, s, matches, targets)
        end, weight = s.group.name, s.group.weight
        values = _weighted(criterion, values)
        losses.update({n.removesuffix(end) + end: v * weight for n, v in values.items()})
    return losses


def as_outputs(detector: nn.Module, predictions: Predictions) -> dict:
    """A set in upstream's format."""
    logits, boxes = predictions.logits, predictions.boxes
    outputs = {"pred_logits": logits[-1], "pred_boxes": boxes[-1]}
    if detector.aux_loss:
        outputs["aux_outputs"] = detector._set_aux_loss(logits, boxes)
    return outputs


def _mark(outputs: dict, group: QueryGroup) -> None:
    """Add the group to the outputs of every layer."""
    for layer in (outputs, *outputs.get("aux_outputs", ())):
        layer["group"] = group


def fold_blocks(outputs: dict, blocks: int) -> dict:
    """Outputs (blocks * B, N / blocks, ...) with each block as an image, from (B, N, ...)."""

    def fold(value: object) -> object:
        if isinstance(value, QueryGroup):
            return value
        if isinstance(value, Tensor):  # block after block, as repeated targets stand
            return value.unflatten(1, (blocks, -1)).transpose(0, 1).flatten(0, 1)
        return [fold_blocks(layer, blocks) for layer in value]

    return {name: fold(value) for name, value in outputs.items()}


def _primary(
    detector: nn.Module, sets: Sequence[Predictions], targets: Targets
) -> dict[str, Tensor]:
    """The unweighted losses of the primary group, of the proposals and of denoising queries."""
    outputs, arguments = {}, []
    for s in sets[1:]:
        if s.stage == "encoder":
            outputs["enc_outputs"] = {"pred_logits": s.logits[0], "pred_boxes": s.boxes[0]}
            if isinstance(detector.criterion, SetCriterion):  # others know what they supervise
                outputs["enc_outputs"]["class_agnostic"] = s.class_agnostic
        elif s.group.name == "_dn":
            known = as_outputs(detector, s) if s.group.size else None
            width = s.group.size // s.group.blocks
            if detector.passes_dn_metas and _takes_three(detector.criterion):
                meta = {"dn_num": s.group.blocks, "single_padding": width}
                arguments.append(known and {**meta, "output_known_lbs_bboxes": known})
            elif known:
                outputs["denoising_output"] = known
                outputs["denoising_groups"] = torch.tensor(s.group.blocks)
                outputs["max_gt_num_per_image"] = torch.tensor(width)
    return _matched(detector, sets[0], targets, outputs, arguments)


def _takes_three(criterion: nn.Module) -> bool:
    """Whether ``forward`` takes DINO's denoising after outputs and targets."""
    names = list(inspect.signature(criterion.forward).parameters.values())[2:3]
    return any(p.kind is not p.VAR_KEYWORD and p.name != "return_indices" for p in names)


def _matched(
    detector: nn.Module,
    predictions: Predictions,
    targets: Targets,
    more: dict | None = None,
    arguments: Sequence[object] = (),
) -> dict[str, Tensor]:
    """The criterion's losses of a set, with ``more`` outputs and further arguments."""
    group, criterion = predictions.group, detector.criterion
    outputs = as_outputs(detector, predictions)
    if group.name and isinstance(criterion, SetCriterion):
        _mark(outputs, replace(group.one_block, copies=1, weight=1.0))
    if group.blocks > 1 and not hasattr(criterion, "group_nums"):  # it folds them itself
        outputs, targets = fold_blocks(outputs, group.blocks), list(targets) * group.blocks
    copies = int(group.copies) // group.blocks
    if copies > 1:
        targets = [
            {k: torch.cat([v] * copies) if k in ("labels", "boxes") else v for k, v in t.items()}
            for t in targets
        ]
    return criterion({**outputs, **(more or {})}, targets, *arguments)


def _known(criterion: nn.Module, predictions: Predictions, targets: Targets) -> Matches | None:
    if isinstance(criterion, SetCriterion):
        known = criterion.known_matches(predictions, targets)
        return known if known is None else known.wait()
    if predictions.group.assign is None:
        return None
    raise InputError(
        f"criterion: {type(criterion).__name__} cannot supervise the queries"
        f" {predictions.group.name!r} of this model, whose targets are known: derive it from"
        " SetCriterion"
    )


def _of_pairs(
    criterion: SetCriterion, predictions: Predictions, matches: Matches, targets: Targets
) -> dict[str, Tensor]:
    """Unweighted losses of a set whose pairs are known."""
    group = predictions.group
    outputs = {"pred_logits": predictions.logits[-1]}
    num_boxes = max(count_objects(outputs, targets) * group.copies, 1.0)
    losses, last = {}, len(predictions.logits) - 1
    for i, (logits, boxes) in enumerate(zip(predictions.logits, predictions.boxes, strict=True)):
        layer = {"pred_logits": logits, "pred_boxes": boxes, "group": replace(group, weight=1.0)}
        indices = indices_of_layer(matches, i, targets)
        suffix = "" if i == last else f"_{i}"
        losses.update(criterion.losses_of_layer(layer, targets, indices, num_boxes, suffix))
    return losses


def _weighted(criterion: nn.Module, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses times their factors; as upstream, one that has none counts as it is."""
    weights = getattr(criterion, "weight_dict", {})
    nearest = isinstance(criterion, SetCriterion)
    factors = {n: of_nearest_name(weights, n) if nearest else weights.get(n) for n in losses}
    return {name: v if factors[name] is None else v * factors[name] for name, v in losses.items()}
