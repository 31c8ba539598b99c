"""One-to-many assignment of MS-DETR: the best candidates of each target, if they are good enough.

Legend: B images, L layers, N queries, K classes, G targets of an image, M matches; boxes are
cxcywh in [0, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from detrex.layers import box_cxcywh_to_xyxy, box_iou
from detrex.modeling.criterion import Predictions, SetCriterion
from detrex.modeling.matcher import Matches
from detrex.modeling.matcher.matcher import Targets
from detrex.utils.device import HostCopy


class MixedCriterion(SetCriterion):
    """Set criterion that assigns the group "_one2many" by :func:`candidates_by_quality`; a target
    gets at most the group's ``copies``."""

    def __init__(self, *args, score_weight: float = 0.3, threshold: float = 0.4, **rest) -> None:
        super().__init__(*args, **rest)
        self.score_weight = score_weight
        self.threshold = threshold

    def known_matches(self, predictions: Predictions, targets: Targets) -> Matches | None:
        if predictions.group.name != "_one2many":
            return super().known_matches(predictions, targets)
        k = predictions.group.copies
        return candidates_by_quality(predictions, targets, k, self.score_weight, self.threshold)


@torch.no_grad()
def candidates_by_quality(
    predictions: Predictions, targets: Targets, k: int, score_weight: float, threshold: float
) -> Matches:
    """For each target its ``k`` queries of highest quality, if that reaches ``threshold``.

    Quality = score_weight * score of the target's class + (1 - score_weight) * IoU. A query that
    is among the best of several targets is assigned to the one where its quality is highest.
    """
    owners, first = [], 0
    images = zip(predictions.logits.unbind(1), predictions.boxes.unbind(1), targets, strict=True)
    for logits, boxes, target in images:
        iou = box_iou(box_cxcywh_to_xyxy(boxes.float()), box_cxcywh_to_xyxy(target["boxes"]))[0]
        score = logits.float().sigmoid()[..., target["labels"]]  # (L, N, G)
        quality = score_weight * score + (1 - score_weight) * iou
        best = quality.topk(min(k, quality.shape[1]), dim=1).indices
        candidate = torch.zeros_like(quality, dtype=torch.bool).scatter(1, best, True)
        quality = quality.masked_fill(~candidate | (quality < threshold), -1)
        # An image without targets has a column, too: no target.
        value, owner = F.pad(quality, (0, 1), value=-0.5).max(-1)  # (L, N)
        owners.append((owner + first).masked_fill(value < 0, -1))
        first += len(target["boxes"])
    owners = HostCopy(torch.stack(owners)).wait()  # (B, L, N)
    image, layer, query = (owners >= 0).nonzero(as_tuple=True)
    return Matches(layer, image, query, owners[image, layer, query]).to(predictions.boxes.device)
