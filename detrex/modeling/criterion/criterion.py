"""The training loss of every method: match each supervised set, then class + L1 + GIoU per layer.

loss_class = sum(weight * BCE(logits, target)) over all queries and classes, with target and weight
of :mod:`detrex.modeling.losses`; loss_bbox = sum(|box - target|_1) and loss_giou = sum(1 - GIoU)
over the matched pairs; each divided by the number of objects.

Legend: B images, L layers, N queries, K classes, M matches; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detrex.compat.layer_losses import DenoisingLosses, LayerLosses
from detrex.compat.overrides import overridden
from detrex.layers import box_cxcywh_to_xyxy, overlaps
from detrex.layers.box_ops import EPS
from detrex.modeling.losses import (
    CLASS_LOSS_NAMES,
    ClassLoss,
    Quality,
    build_class_loss,
    build_set_losses,
)
from detrex.modeling.losses.softmax import softmax_cross_entropy
from detrex.modeling.matcher import Assignment, Matches, OneToManyMatcher, Problems
from detrex.modeling.matcher.matcher import Targets
from detrex.modeling.matcher.one_to_many import PendingMatches
from detrex.modeling.predictions import Predictions
from detrex.utils.device import send
from detrex.utils.dist import mean_over_ranks
from detrex.utils.errors import AssertedError

T = TypeVar("T")


class Pairs(NamedTuple):
    """The matched pairs of a set, (M,): L1 and 1 - GIoU with gradients, IoU and GIoU without;
    labels (M,) and boxes ``gt`` (M, 4) of the targets."""

    predictions: Predictions
    matches: Matches
    labels: Tensor
    gt: Tensor
    l1: Tensor
    giou_loss: Tensor
    iou: Tensor
    giou: Tensor


class SetCriterion(LayerLosses, nn.Module):
    """Set prediction loss (DETR, Carion et al. 2020, section 3.1).

    ``loss_class_type`` names a class loss of :mod:`detrex.modeling.losses`; ``alpha`` and
    ``gamma`` are its focal parameters, ``delta`` that of Rank & Sort. ``weight_dict`` maps loss
    names to factors. ``eos_coef`` is used by the softmax loss only. Losses are "class" and "boxes";
    a subclass with a :meth:`get_loss` or ``forward`` of its own may have others. ``one_to_many``
    assigns the groups that say so, ``encoder_matcher`` the encoder's proposals, None: ``matcher``.

    ``set_losses``: class losses of sets that have one of their own, such as {"_enc": "focal_loss"}
    for the encoder's proposals or "_dn" for denoising queries; "_enc_hybrid" takes that of "_enc".
    None: ``usual_set_losses``. ``self_balanced``: L1 and GIoU loss are scaled to the value of the
    class loss, layer by layer (Rank & Sort, Oksuz et al. 2021), so all have one factor.

    Attributes:
        figures: under Rank & Sort "ranking_error" and "sorting_error" of the last batch's queries
            in the last layer, without gradient.

    Raises:
        AssertedError: for an unknown ``loss_class_type`` or entry of ``losses``.
        InputError: for an unknown loss of a set, or a parameter out of its range.
    """

    usual_set_losses: ClassVar[Mapping[str, str]] = {"_enc": "focal_loss"}
    overlap_eps = EPS

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
        delta: float = 0.5,
        set_losses: Mapping[str, str] | None = None,
        self_balanced: bool = False,
        one_to_many: OneToManyMatcher | None = None,
        encoder_matcher: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self._check_losses(loss_class_type, losses)
        self.num_classes, self.weight_dict, self.losses = num_classes, weight_dict, list(losses)
        self.matcher, self.one_to_many = matcher, one_to_many
        self.encoder_matcher = encoder_matcher
        self.eos_coef, self.self_balanced = eos_coef, self_balanced
        # Subclasses of upstream's projects read these.
        self.loss_class_type, self.alpha, self.gamma = loss_class_type, alpha, gamma
        # None: DETR's softmax, which is no weighted binary cross-entropy.
        self.query_loss: ClassLoss | None = None
        if loss_class_type == "ce_loss":
            weight = F.pad(torch.ones(num_classes), (0, 1), value=eos_coef)
            self.register_buffer("empty_weight", weight)
        else:
            self.query_loss = build_class_loss(loss_class_type, alpha, gamma, delta)
        set_losses = self.usual_set_losses if set_losses is None else set_losses
        self.set_losses = build_set_losses(set_losses, alpha, gamma, delta)
        self.figures: dict[str, Tensor] = {}

    def _check_losses(self, loss_class_type: str, losses: Sequence[str]) -> None:
        known = [*CLASS_LOSS_NAMES, "ce_loss"]
        if loss_class_type not in known:
            raise AssertedError(
                f"criterion: loss_class_type is one of {known}, got {loss_class_type!r}"
            )
        if set(losses) - {"class", "boxes"} and not overridden(self, ("get_loss", "forward")):
            raise AssertedError(
                f"criterion: losses are 'class' and 'boxes', got {list(losses)}; others need a"
                " get_loss() that knows them"
            )

    def losses_of_sets(self, sets: Sequence[Predictions], targets: Targets) -> dict[str, Tensor]:
        """Unweighted losses of all sets, divided by the number of objects per process.

        The one wait for the device is for the matching costs.
        """
        num_boxes = mean_over_ranks(object_count(targets), sets[0].logits.device)
        known = [self.known_matches(s, targets) for s in sets]
        unknown = [s for s, matches in zip(sets, known, strict=True) if matches is None]
        assignment = Assignment([self.problems(s, targets) for s in unknown])
        sets = [replace(s, logits=s.logits.float()) for s in sets]
        solved = map(self._join_blocks, unknown, assignment.solve())
        matches = [next(solved) if m is None else m.wait() for m in known]
        return self.losses_of_matches(sets, matches, targets, self.losses, [num_boxes] * len(sets))

    def losses_of_matches(
        self,
        sets: Sequence[Predictions],
        matches: Sequence[Matches],
        targets: Targets,
        kinds: Sequence[str],
        counts: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Unweighted losses of all sets with float32 logits and known matches; ``counts``: number
        of objects per process by which those of each set are divided."""
        losses: dict[str, Tensor] = {}
        for pairs, count in zip(self.match_pairs(sets, matches, targets), counts, strict=True):
            predictions, group = pairs.predictions, pairs.predictions.group
            scale = group.weight / (count * group.copies).clamp(min=1)
            for kind, values in self.losses_of_pairs(pairs, kinds, scale).items():
                # Copies: callers may weight them in place.
                named = enumerate(torch.unbind_copy(values))
                losses.update({predictions.loss_name(kind, i): value for i, value in named})
        return losses

    def known_matches(
        self, predictions: Predictions, targets: Targets
    ) -> Matches | PendingMatches | None:
        """The matches of a set that need no solver, such as denoising's; None: ask the matcher."""
        group = predictions.group
        if group.one_to_many:
            return self.one_to_many.match(predictions.logits, predictions.matched, targets)
        assign = group.assign
        return None if assign is None else assign.on_layers(len(predictions.logits))

    @torch.no_grad()
    def problems(self, predictions: Predictions, targets: Targets) -> Problems:
        """The assignments to be solved for a set: one for every image, layer and block."""
        group, blocks = predictions.group, predictions.group.blocks
        if group.copies % blocks:
            raise ValueError(
                f"query group {group.name!r}: its {group.copies} copies of each target do not"
                f" spread over {blocks} blocks"
            )

        def as_layers(x: Tensor) -> Tensor:  # (L, B, N, ...) -> (L * blocks, B, N / blocks, ...)
            return x if blocks == 1 else x.unflatten(2, (blocks, -1)).transpose(1, 2).flatten(0, 1)

        logits, boxes = as_layers(predictions.logits), as_layers(predictions.matched)
        is_encoder = self.encoder_matcher is not None and predictions.stage == "encoder"
        matcher = self.encoder_matcher if is_encoder else self.matcher
        costs = matcher.costs(logits, boxes, targets, predictions.class_agnostic)
        k = self.queries_per_target(predictions)
        if k is None:
            return Problems(costs, [group.copies // blocks] * len(logits))
        return Problems(costs, [n for n in k for _ in range(blocks)], share=0.5)

    def queries_per_target(self, predictions: Predictions) -> Sequence[int] | None:
        """How many queries a target takes in each layer of the set (L,), fewer in crowded images;
        None: as many as the group's ``copies``."""
        return None

    def _join_blocks(self, predictions: Predictions, matches: Matches) -> Matches:
        """The matches of a group from those of its blocks, which were solved one by one."""
        group = predictions.group
        if group.blocks == 1:
            return matches
        first = matches.layer % group.blocks * (group.size // group.blocks)
        return matches._replace(layer=matches.layer // group.blocks, query=matches.query + first)

    def match_pairs(
        self, sets: Sequence[Predictions], matches: Sequence[Matches], targets: Targets
    ) -> list[Pairs]:
        """The matched pairs of every set; the boxes of all sets are compared together."""
        boxes = torch.cat([s.boxes[m.place] for s, m in zip(sets, matches, strict=True)]).float()
        target = torch.cat([m.target for m in matches])
        gt = torch.cat([t["boxes"] for t in targets])[target]
        labels = torch.cat([t["labels"] for t in targets])[target]
        corners = box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(gt)
        iou, giou, _ = overlaps(*corners, self.overlap_eps)
        l1 = (boxes - gt).abs().sum(-1)
        sizes = [len(m.query) for m in matches]
        values = labels, gt, l1, 1 - giou, iou.detach(), giou.detach()
        columns = [x.split(sizes) for x in values]
        pairs = [Pairs(*values) for values in zip(sets, matches, *columns, strict=True)]
        return [
            p._replace(labels=torch.zeros_like(p.labels)) if p.predictions.class_agnostic else p
            for p in pairs
        ]

    def losses_of_pairs(
        self, pairs: Pairs, kinds: Sequence[str], scale: Tensor | float
    ) -> dict[str, Tensor]:
        """Losses of a set by kind: the sums of each layer (L,), times ``scale``."""
        predictions, layer = pairs.predictions, pairs.matches.layer
        weight = self.pair_weights(predictions, pairs.matches, pairs.labels, pairs.iou)
        zeros = pairs.l1.new_zeros(len(predictions.logits))
        losses = {
            kind: zeros.index_add(0, layer, loss * (weight if self.weighs(kind) else 1)) * scale
            for kind, loss in self._box_losses(pairs, kinds).items()
        }
        if "class" not in kinds and not self.self_balanced:
            return losses
        class_loss = self.class_loss_of_set(pairs, weight, scale)
        if self.self_balanced:
            for kind in losses.keys() & {"bbox", "giou"}:
                loss = losses[kind].detach()
                losses[kind] = losses[kind] * (class_loss / loss).where(loss > 0, 1.0).detach()
        return {**losses, "class": class_loss} if "class" in kinds else losses

    def class_loss_of_set(
        self, pairs: Pairs, weight: Tensor | float, scale: Tensor | float
    ) -> Tensor:
        """Class loss of each layer (L,), times ``scale`` if it is a sum."""
        predictions, matches = pairs.predictions, pairs.matches
        image = matches.layer * predictions.logits.shape[1] + matches.image
        quality = Quality(pairs.iou, pairs.giou, weight, matches.bags(), image)
        loss = of_nearest_name(self.set_losses, predictions.group.name)
        function, loss = loss or self.class_loss, loss or self.query_loss
        value = function(predictions.logits, matches, pairs.labels, quality)
        if not predictions.group.name:
            figures = getattr(loss, "figures", {})
            self.figures = {name: errors[-1] for name, errors in figures.items()}
        is_mean = loss is None or loss.is_mean
        return value * (predictions.group.weight if is_mean else scale)

    def pair_weights(
        self, predictions: Predictions, matches: Matches, labels: Tensor, iou: Tensor
    ) -> Tensor | float:
        """Factor (M,), or one for all, of the soft target and the box losses of matched pairs."""
        return 1.0

    def weighs(self, kind: str) -> bool:
        """Whether :meth:`pair_weights` are factors of the box loss ``kind``, too."""
        return True

    def class_loss(
        self, logits: Tensor, matches: Matches, labels: Tensor, quality: Quality
    ) -> Tensor:
        """Class loss of the queries, summed in each layer (L,): logits (L, B, N, K), labels (M,).

        A loss that needs all logits at once overrides this method.
        """
        if self.query_loss is None:
            return softmax_cross_entropy(logits, matches, labels, self.empty_weight)
        return self.query_loss(logits, matches, labels, quality)

    def _box_losses(self, pairs: Pairs, kinds: Sequence[str]) -> dict[str, Tensor]:
        """L1, 1 - GIoU and, with an IoU branch, its cross-entropy, of each pair (M,)."""
        losses = {"bbox": pairs.l1, "giou": pairs.giou_loss} if "boxes" in kinds else {}
        if (logits := pairs.predictions.iou_logits) is not None:
            # Reconstructed: Align-DETR (table 4) does not say the loss of its IoU branch.
            x = logits.float()[pairs.matches.place]
            losses["iou"] = F.binary_cross_entropy_with_logits(x, pairs.iou, reduction="none")
        return losses

    def weighted(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses times their factors in ``weight_dict``.

        "loss_bbox_0_one2many" takes the factor of "loss_bbox_0", or else of "loss_bbox".

        Raises:
            ValueError: for a loss without a factor.
        """
        factors = [of_nearest_name(self.weight_dict, name) for name in losses]
        if None in factors:
            name = list(losses)[factors.index(None)]
            raise ValueError(f"criterion.weight_dict has no factor for {name!r}")
        values = torch.stack(list(losses.values()))
        values = values * send(torch.tensor(factors, dtype=values.dtype), values.device)
        return dict(zip(losses, torch.unbind_copy(values), strict=True))


def object_count(targets: Targets) -> int:
    """Number of objects of all images."""
    return sum(len(target["labels"]) for target in targets)


def of_nearest_name(values: Mapping[str, T], name: str) -> T | None:
    """The value of a loss or set; "loss_bbox_0_one2many" takes that of "loss_bbox_0", or else of
    "loss_bbox", and "_enc_hybrid" that of "_enc"."""
    while name not in values:
        if "_" not in name.removeprefix("loss_"):
            return None
        name = name.rpartition("_")[0]
    return values[name]


class TwoStageCriterion(DenoisingLosses, SetCriterion):
    """Set criterion whose proposals answer for real labels (DINO).

    ``two_stage_binary_cls``: they answer for class 0 instead, as in Deformable DETR.
    """

    def __init__(self, *args, two_stage_binary_cls: bool = False, **rest) -> None:
        super().__init__(*args, **rest)
        self.two_stage_binary_cls = two_stage_binary_cls
