"""The training loss of every method: match each supervised set, then class + L1 + GIoU per layer.

Legend: B images, L layers, N queries, K classes, M matches; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detrex.layers import box_cxcywh_to_xyxy, overlaps
from detrex.modeling.losses import CLASS_LOSSES, ClassLoss, Quality, build_class_loss
from detrex.modeling.losses.softmax import softmax_cross_entropy
from detrex.modeling.matcher import Matches
from detrex.modeling.matcher.matcher import Targets
from detrex.modeling.queries import QueryGroup
from detrex.utils.dist import mean_over_ranks


@dataclass
class Predictions:
    """A supervised set: logits (L, B, N, K) and boxes (L, B, N, 4) of one query group.

    ``class_agnostic``: every target counts as class 0 (two-stage proposals of Deformable DETR).
    ``iou_logits`` (L, B, N): how well a query thinks its box fits, None without an IoU branch.
    """

    logits: Tensor
    boxes: Tensor
    group: QueryGroup
    class_agnostic: bool = False
    iou_logits: Tensor | None = None

    def loss_name(self, kind: str, layer: int) -> str:
        """ "loss_class_0_one2many": the last layer carries no number."""
        return self.group.loss_name(kind, "" if layer == len(self.logits) - 1 else f"_{layer}")


class SetCriterion(nn.Module):
    """Set prediction loss (DETR, Carion et al. 2020, section 3.1).

    ``loss_class_type`` names a class loss of :mod:`detrex.modeling.losses`; ``alpha`` and
    ``gamma`` are its focal parameters. ``weight_dict`` maps loss names to factors.
    ``eos_coef`` is used by the softmax loss only.

    Raises:
        ValueError: for an unknown ``loss_class_type`` or entry of ``losses``.
    """

    def __init__(
        self,
        num_classes: int,
        matcher: nn.Module,
        weight_dict: dict[str, float],
        losses: Sequence[str] = ("class", "boxes"),
        eos_coef: float = 0.1,
        loss_class_type: str = "focal_loss",
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        known = [*sorted(CLASS_LOSSES), "ce_loss"]
        if loss_class_type not in known:
            raise ValueError(
                f"criterion: loss_class_type is one of {known}, got {loss_class_type!r}"
            )
        if set(losses) - {"class", "boxes"}:
            raise ValueError(f"criterion: losses are 'class' and 'boxes', got {list(losses)}")
        self.num_classes = num_classes
        self.matcher = matcher
        self.weight_dict = weight_dict
        self.losses = tuple(losses)
        self.eos_coef = eos_coef
        # None: DETR's softmax, which is no weighted binary cross-entropy.
        self.class_loss: ClassLoss | None = None
        if loss_class_type == "ce_loss":
            weight = torch.ones(num_classes + 1)
            weight[-1] = eos_coef
            self.register_buffer("empty_weight", weight)
        else:
            self.class_loss = build_class_loss(loss_class_type, alpha, gamma)
        self.proposal_loss = build_class_loss("focal_loss", alpha, gamma)

    def supervise(self, sets: Sequence[Predictions], targets: Targets) -> dict[str, Tensor]:
        """Unweighted losses of all sets, divided by the number of objects per process."""
        count = sum(len(target["labels"]) for target in targets)
        num_boxes = mean_over_ranks(count, sets[0].logits.device)
        losses: dict[str, Tensor] = {}
        for predictions in sets:
            losses.update(self._set_losses(predictions, targets, num_boxes))
        return losses

    def weighted(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses times their factors in ``weight_dict``.

        "loss_bbox_0_one2many" takes the factor of "loss_bbox_0", or else of "loss_bbox".
        """
        return {name: loss * self._factor(name) for name, loss in losses.items()}

    def forward(
        self, outputs: dict, targets: Targets, return_indices: bool = False
    ) -> dict[str, Tensor] | tuple[dict[str, Tensor], list]:
        """Upstream's format: "pred_logits" (B, N, K), "pred_boxes" (B, N, 4), and optionally
        "aux_outputs" (a list of such dicts) and "enc_outputs" (one)."""
        losses = self.supervise(sets_from_outputs(outputs), targets)
        if not return_indices:
            return losses
        layers = [outputs, *outputs.get("aux_outputs", ())]
        return losses, [self.matcher(layer, targets) for layer in layers]

    def match(self, predictions: Predictions, targets: Targets) -> Matches:
        """The known assignment of the group, or else the matcher's."""
        group = predictions.group
        if group.assign is not None:
            return group.assign.on_layers(len(predictions.logits))
        logits, boxes = predictions.logits.detach(), predictions.boxes.detach()
        blocks = group.blocks
        if group.copies % blocks:
            raise ValueError(
                f"query group {group.name!r}: its {group.copies} copies of each target do not"
                f" spread over {blocks} blocks"
            )

        def as_layers(x: Tensor) -> Tensor:  # (L, B, N, ...) -> (L * blocks, B, N / blocks, ...)
            return x.unflatten(2, (blocks, -1)).transpose(1, 2).flatten(0, 1)

        copies = group.copies // blocks
        matches = self.matcher.match(as_layers(logits), as_layers(boxes), targets, copies)
        first = matches.layer % blocks * (group.size // blocks)
        return matches._replace(layer=matches.layer // blocks, query=matches.query + first)

    def loss_of(self, predictions: Predictions) -> ClassLoss | None:
        """The class loss of a set: the encoder's proposals have their own."""
        return self.proposal_loss if predictions.group is ENCODER else self.class_loss

    def pair_weights(
        self, predictions: Predictions, matches: Matches, labels: Tensor, iou: Tensor
    ) -> Tensor | float:
        """Factor (M,) of every matched pair's soft target and box losses."""
        return 1.0

    def _factor(self, name: str) -> float:
        while name not in self.weight_dict:
            if "_" not in name.removeprefix("loss_"):
                raise ValueError(f"criterion.weight_dict has no factor for {name!r}")
            name = name.rpartition("_")[0]
        return self.weight_dict[name]

    def _set_losses(self, predictions: Predictions, targets: Targets, num_boxes: Tensor) -> dict:
        group = predictions.group
        if predictions.class_agnostic:
            targets = [{**t, "labels": torch.zeros_like(t["labels"])} for t in targets]
        matches = self.match(predictions, targets)
        labels = torch.cat([t["labels"] for t in targets])[matches.target]
        gt = torch.cat([t["boxes"] for t in targets])[matches.target]
        sums = self._sums(predictions, matches, labels, gt)
        scale = group.weight / (num_boxes * group.copies).clamp(min=1)
        losses = {kind: values * scale for kind, values in sums.items()}
        if "class" in self.losses and self.loss_of(predictions) is None:
            mean = softmax_cross_entropy(predictions.logits, matches, labels, self.empty_weight)
            losses["class"] = mean * group.weight
        return {
            predictions.loss_name(kind, layer): value
            for kind, values in losses.items()
            for layer, value in enumerate(values)
        }

    def _sums(self, predictions: Predictions, matches: Matches, labels: Tensor, gt: Tensor) -> dict:
        """Each loss summed over queries, (L,): labels (M,) and gt (M, 4) of the matched targets."""
        matched = matches.layer, matches.image, matches.query
        boxes = predictions.boxes.float()[matched]  # (M, 4)
        iou, giou, _ = overlaps(box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(gt))
        weight = self.pair_weights(predictions, matches, labels, iou.detach())
        sums = {}
        loss = self.loss_of(predictions)
        if "class" in self.losses and loss is not None:
            quality = Quality(iou.detach(), giou.detach(), weight, matches.bags())
            sums["class"] = class_loss_sum(predictions.logits, matches, labels, quality, loss)
        zeros = boxes.new_zeros(len(predictions.boxes))
        if "boxes" in self.losses:
            l1 = F.l1_loss(boxes, gt, reduction="none").sum(-1)
            sums["bbox"] = zeros.index_add(0, matches.layer, l1 * weight)
            sums["giou"] = zeros.index_add(0, matches.layer, (1 - giou) * weight)
        if predictions.iou_logits is not None:
            # Reconstructed: Align-DETR (table 4) does not say the loss of its IoU branch.
            x = predictions.iou_logits.float()[matched]
            bce = F.binary_cross_entropy_with_logits(x, iou.detach(), reduction="none")
            sums["iou"] = zeros.index_add(0, matches.layer, bce * weight)
        return sums


def class_loss_sum(
    logits: Tensor, matches: Matches, labels: Tensor, quality: Quality, loss: ClassLoss
) -> Tensor:
    """The class loss of each layer (L,): all logits as negatives, then the M positives corrected.

    Equal to one-hot targets, without building them.
    """
    logits = logits.float()
    x = logits[matches.layer, matches.image, matches.query, labels]  # (M,)
    correction = loss.positives(x, quality) - loss.negatives(x)
    return loss.sum_as_negatives(logits).index_add(0, matches.layer, correction)


def sets_from_outputs(outputs: dict) -> list[Predictions]:
    """Upstream's nested dict as supervised sets."""
    layers = [*outputs.get("aux_outputs", ()), outputs]
    sets = [_stack(layers, QueryGroup(size=outputs["pred_logits"].shape[1]))]
    if "enc_outputs" in outputs:
        sets.append(_stack([outputs["enc_outputs"]], ENCODER, class_agnostic=True))
    return sets


def _stack(layers: Sequence[dict], group: QueryGroup, class_agnostic: bool = False) -> Predictions:
    logits = torch.stack([layer["pred_logits"] for layer in layers])
    boxes = torch.stack([layer["pred_boxes"] for layer in layers])
    return Predictions(logits, boxes, group, class_agnostic)


# The encoder's proposals are supervised as a set of their own; its size is the number of tokens.
ENCODER = QueryGroup(name="_enc", size=1)
