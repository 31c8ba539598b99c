"""One-to-many assignment by quality: no solver, each target takes the queries that serve it well.

Used by DAC-DETR (Hu et al., NeurIPS 2023, section 3.3), Mr. DETR (Zhang et al., CVPR 2025) and
MS-DETR (Zhao et al., CVPR 2024).

Legend: B images, L layers, N queries, K classes, G targets of an image, M matches; boxes are
cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detrex.layers import box_cxcywh_to_xyxy, box_iou
from detrex.utils.device import HostCopy, send

from .assignment import Matches
from .matcher import Targets


class OneToManyMatcher:
    """At most ``k`` queries per target, chosen by quality = iou_weight * IoU + (1 - iou_weight) *
    score of the target's class.

    A target takes its ``k`` queries of highest quality, if that reaches ``threshold``, and with
    ``keep_best`` its best query in any case. A query that several targets take answers for the one
    where its quality is highest.

    ``as_released``: the steps of DAC-DETR's and Mr. DETR's code instead, see :func:`released`;
    there a query may answer for several targets. ``most_positives``: that code's limit of the
    queries that count as positive in an image, chosen at random; None: no limit.
    """

    def __init__(
        self,
        k: int = 6,
        iou_weight: float = 0.7,
        threshold: float = 0.4,
        keep_best: bool = True,
        as_released: bool = False,
        most_positives: int | None = None,
    ) -> None:
        self.k = k
        self.iou_weight = iou_weight
        self.threshold = threshold
        self.keep_best = keep_best
        self.as_released = as_released
        self.most_positives = most_positives

    @torch.no_grad()
    def match(self, logits: Tensor, boxes: Tensor, targets: Targets) -> PendingMatches:
        """Start the assignment of every layer: logits (L, B, N, K), boxes (L, B, N, 4)."""
        images = zip(logits.float().unbind(1), boxes.float().unbind(1), targets, strict=True)
        chosen = [
            self.choose(self.quality(x, b, target["labels"], target["boxes"]))
            for x, b, target in images
        ]
        return PendingMatches(torch.cat(chosen, 1), [len(t["labels"]) for t in targets])

    def quality(self, logits: Tensor, boxes: Tensor, labels: Tensor, gt: Tensor) -> Tensor:
        """One image's quality (L, N, G): logits (L, N, K), boxes (L, N, 4), gt (G, 4)."""
        score = logits.sigmoid().index_select(-1, labels)
        iou = box_iou(box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(gt))[0]
        return self.iou_weight * iou + (1 - self.iou_weight) * score

    def choose(self, quality: Tensor) -> Tensor:
        """The queries (L, G, k) of each target of an image, the best first, -1: none; quality
        (L, N, G)."""
        best = quality.topk(min(self.k, quality.shape[1]), dim=1)
        value, query = best.values.mT, best.indices.mT  # (L, G, k)
        if not query.numel():  # no targets: there is nothing to take a maximum of
            return query
        rank = torch.arange(query.shape[2], device=query.device)
        if self.as_released:
            counts = count_positives(quality, self.threshold, self.most_positives)
            return torch.where(rank < counts[..., None], query, -1)
        taken = (value >= self.threshold) | ((rank == 0) & self.keep_best)
        value = value.masked_fill(~taken, -1)
        # Of each query the highest quality among the targets that take it.
        wished = torch.full_like(quality, -1).scatter(1, query.mT, value.mT)
        target = wished.argmax(2)[:, None].expand(-1, query.shape[1], -1).gather(2, query)
        number = torch.arange(query.shape[1], device=query.device)[:, None]
        return torch.where(taken & (target == number), query, -1)


def count_positives(quality: Tensor, threshold: float, most: int | None) -> Tensor:
    """How many queries count for each target (L, G) in the released code; quality (L, N, G).

    Every query counts for the target that it serves best, if its quality there reaches
    ``threshold``. The best query of each target counts whatever its quality, but also for the
    target that the query itself serves best: a target whose best query prefers another may get
    none. Of more than ``most`` queries a random choice counts.
    """
    value, target = quality.max(2)  # (L, N)
    positive = (value >= threshold).scatter(1, quality.argmax(1), True)
    if most is not None and most < positive.shape[1]:
        draw = torch.rand_like(value).masked_fill(~positive, 2.0)
        positive = positive & (draw.argsort(1).argsort(1) < most)
    counts = target.new_zeros(quality.shape[0], quality.shape[2])
    return counts.scatter_add(1, target, positive.long())


class PendingMatches:
    """Matches on their way to the host, where alone it is known how many they are.

    ``chosen`` (L, G, k): the queries of each target of all images, -1: none. ``counts``: the
    images' numbers of targets.
    """

    def __init__(self, chosen: Tensor, counts: Sequence[int]) -> None:
        self.counts, self.device = counts, chosen.device
        self.copy = HostCopy(chosen)

    def wait(self) -> Matches:
        """The matches, on the device again: layer by layer, by targets, the best query first."""
        chosen = self.copy.wait()
        image = torch.repeat_interleave(torch.tensor(self.counts, dtype=torch.int64))
        layer, target, rank = (chosen >= 0).nonzero(as_tuple=True)
        matches = torch.stack([layer, image[target], chosen[layer, target, rank], target])
        return Matches(*send(matches, self.device, pin=True).unbind())
