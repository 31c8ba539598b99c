"""D-FINE's training loss (Peng et al., ICLR 2025, sections 4.1 and 4.2).

Class losses look at each layer's matches. Boxes and edges of all layers answer for the union of all
layers' matches, so that a query has one target from the first layer to the last. Layers learn from
the last one's distributions, too (global optimal localisation self-distillation, GO-LSD).

Legend: B images, L layers, N queries, M matches; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from detrex.modeling.criterion import Predictions
from detrex.modeling.criterion.criterion import Pairs, object_count
from detrex.modeling.matcher import Assignment, Matches
from detrex.modeling.matcher.assignment import send_matches
from detrex.modeling.matcher.matcher import Targets
from detrex.modeling.queries import QueryGroup
from detrex.utils.device import send
from detrex.utils.dist import mean_over_ranks
from projects.rt_detr.modeling import RTDETRCriterion

from .d_fine import EdgePredictions
from .distribution import divergence, fine_grained_loss


class DFINECriterion(RTDETRCriterion):
    """RT-DETR's criterion with "fgl" and "ddf" beside the losses of boxes.

    loss_fgl: fine-grained localisation loss of the pairs, weighted with their IoU. loss_ddf, in all
    layers but the last: decoupled distillation focal loss, in which pairs weigh their IoU, other
    queries the last layer's best score, at ``temperature``.
    """

    def __init__(self, *args, temperature: float = 5.0, **rest) -> None:
        super().__init__(*args, **rest)
        self.temperature = temperature

    def losses_of_sets(self, sets: Sequence[Predictions], targets: Targets) -> dict[str, Tensor]:
        device = sets[0].logits.device
        sets = [replace(s, logits=s.logits.float()) for s in sets]
        matches, shared = self.matches_of_sets(sets, targets)
        pairs = [len(m.query) // len(s.logits) for m, s in zip(shared, sets, strict=True)]
        # As released, denoising has the share of the other queries.
        balance = _balance(pairs[0], sets[0].logits[0, ..., 0].numel())
        sets = [replace(s, balance=balance) if _has_edges(s) else s for s in sets]
        numbers = send(torch.tensor([object_count(targets), *pairs]).float(), device, pin=True)
        count, *pairs = mean_over_ranks(numbers, device).unbind()
        counts = [number / s.group.copies for number, s in zip(pairs, sets, strict=True)]
        classes, boxes = ([kind] if kind in self.losses else [] for kind in ("class", "boxes"))
        losses = self.losses_of_matches(sets, matches, targets, classes, [count] * len(sets))
        return losses | self.losses_of_matches(sets, shared, targets, boxes, counts)

    def matches_of_sets(
        self, sets: Sequence[Predictions], targets: Targets
    ) -> tuple[list[Matches], list[Matches]]:
        """The matches of every set, and those by which its boxes are supervised: the union of all
        sets of the same queries, on every layer, or the assignment that is known."""
        known = [self.known_matches(s, targets) for s in sets]
        free = [s for s, matches in zip(sets, known, strict=True) if matches is None]
        assignment = Assignment([self.problems(s, targets) for s in free])
        solved = list(map(self._join_blocks, free, assignment.solve_on_host()))
        members: dict[str, list[Matches]] = {}
        for s, matches in zip(free, solved, strict=True):
            members.setdefault(_queries_of(s, sets[0].group), []).append(matches)
        solved += map(union_of, members.values())
        sent = iter(send_matches(solved, sets[0].logits.device))
        matches = [next(sent) if m is None else m.wait() for m in known]
        unions = dict(zip(members, sent, strict=True))
        shared = [
            unions[_queries_of(s, sets[0].group)].on_layers(len(s.logits)) if m is None else one
            for s, m, one in zip(sets, known, matches, strict=True)
        ]
        return matches, shared

    def losses_of_pairs(
        self, pairs: Pairs, kinds: Sequence[str], scale: Tensor | float
    ) -> dict[str, Tensor]:
        losses = super().losses_of_pairs(pairs, kinds, scale)
        if "boxes" in kinds and _has_edges(pairs.predictions):
            losses["ddf"] = self.distillation(pairs)
        return losses

    def _box_losses(self, pairs: Pairs, kinds: Sequence[str]) -> dict[str, Tensor]:
        losses, predictions = super()._box_losses(pairs, kinds), pairs.predictions
        if "boxes" in kinds and _has_edges(predictions):
            reference = predictions.reference[pairs.matches.place[1:]]
            target = predictions.edges.targets(reference, pairs.gt)
            loss = fine_grained_loss(predictions.corners[pairs.matches.place], *target)
            losses["fgl"] = loss * pairs.iou
        return losses

    def distillation(self, pairs: Pairs) -> Tensor:
        """Decoupled distillation focal loss (eq. 7) of all layers but the last, (L - 1,)."""
        predictions, place = pairs.predictions, pairs.matches.place
        corners = predictions.corners
        score = predictions.logits[-1].detach().sigmoid().amax(-1)  # (B, N)
        weight = score.expand(len(corners), -1, -1).index_put(place, pairs.iou)
        is_pair = torch.zeros_like(weight).index_put(place, torch.ones_like(pairs.iou))
        loss = divergence(corners[:-1], corners[-1], self.temperature) * weight[:-1]
        of_pairs = (loss * is_pair[:-1]).flatten(1).sum(1)
        count = len(pairs.iou) // len(corners)
        of_others = loss.flatten(1).sum(1) - of_pairs
        others = max(score.numel() - count, 1)
        balance = predictions.balance
        return of_pairs / max(count, 1) * balance + of_others / others * (1 - balance)


def _has_edges(predictions: Predictions) -> bool:
    return isinstance(predictions, EdgePredictions)


def _queries_of(predictions: Predictions, primary: QueryGroup) -> str:
    """Name of the group whose queries a set's are; proposals become the only group's."""
    if predictions.stage == "encoder" and predictions.group.size == primary.size:
        return primary.name
    return predictions.group.name.removesuffix("_pre")


def _balance(pairs: int, queries: int) -> float:
    """Share of the pairs in the distillation, by the root of their number."""
    return math.sqrt(pairs) / (math.sqrt(pairs) + math.sqrt(queries - pairs))


def union_of(sets: Sequence[Matches]) -> Matches:
    """One layer's matches (GO-union): of the pairs of all sets and layers, for each query that with
    the target it is matched to most often, the first one if there are several.

    A target may have several queries, and at least one if it has one in any layer.
    """
    image, query, target = (torch.cat(x) for x in list(zip(*sets, strict=True))[1:])
    pairs, counts = torch.stack([image, query, target]).unique(dim=1, return_counts=True)
    pairs = pairs[:, counts.argsort(descending=True, stable=True)]
    queries, index = pairs[:2].unique(dim=1, return_inverse=True)
    first = torch.full((queries.shape[1],), len(index)).scatter_reduce(
        0, index, torch.arange(len(index)), "amin"
    )
    return Matches(torch.zeros_like(first), *pairs[:, first])
