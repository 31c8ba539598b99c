"""ATSS head (Zhang et al., CVPR 2020): one anchor per place, positives by the statistics of IoU.

Legend: B images, S anchors of all levels, G boxes, M positives, K classes, C channels; boxes are
xyxy in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.meta_arch.fcos import FCOSHead
from detectron2.structures import Boxes, Instances
from fvcore.nn import sigmoid_focal_loss
from torch import Tensor, nn

from detrex.layers import box_iou, overlaps
from detrex.utils.dist import mean_over_ranks

from .anchors import AnchorGenerator
from .assigned import Assigned


@torch.no_grad()
def atss_assign(gt: Tensor, anchors: Sequence[Tensor], topk: int = 9) -> Tensor:
    """The box (S,) that each anchor is assigned to, -1 for none (algorithm 1).

    gt (G, 4); anchors (S_l, 4) of each level. Candidates of a box are the ``topk`` anchors of every
    level whose centres are closest to its centre. Those whose centre lies inside the box and whose
    IoU reaches the mean plus the standard deviation of all candidates' IoU are positive. An anchor
    that is positive for several boxes is assigned to the one with the highest IoU.
    """
    boxes = torch.cat(list(anchors))
    if not len(gt):
        return torch.full((len(boxes),), -1, device=boxes.device)
    centres = Boxes(boxes).get_centers()
    distances = torch.cdist(Boxes(gt).get_centers(), centres)  # (G, S)
    nearest, first = [], 0
    for level in distances.split([len(level) for level in anchors], 1):
        index = level.topk(min(topk, level.shape[1]), largest=False).indices
        nearest.append(first + index)
        first += level.shape[1]
    nearest = torch.cat(nearest, 1).sort(1).values  # (G, candidates of a box)
    candidate = torch.zeros_like(distances, dtype=torch.bool).scatter_(1, nearest, True)
    iou = box_iou(gt, boxes)[0]  # (G, S)
    quality = iou.gather(1, nearest)
    threshold = quality.mean(1, keepdim=True) + quality.std(1, keepdim=True)
    inside = ((centres > gt[:, None, :2]) & (centres < gt[:, None, 2:])).all(-1)
    positive = candidate & inside & (iou >= threshold)
    best, target = iou.masked_fill(~positive, -1).max(0)
    return target.masked_fill(best < 0, -1)


def centreness(anchors: Tensor, boxes: Tensor) -> Tensor:
    """How central (...), in (0, 1], the centres of anchors (..., 4) lie in boxes (..., 4): FCOS
    (Tian et al., ICCV 2019), eq. 3. Any number, or NaN, for centres outside."""
    centres = (anchors[..., :2] + anchors[..., 2:]) / 2
    before, after = centres - boxes[..., :2], boxes[..., 2:] - centres  # (..., 2)
    ratios = torch.minimum(before, after) / torch.maximum(before, after)
    return ratios.prod(-1).sqrt()


class ATSSHead(nn.Module):
    """FCOS' head, one convolution deep, with ATSS' anchors, assignment and losses.

    ``strides``: pixels between two places of each level.
    """

    name = "atss"

    def __init__(self, num_classes: int, embed_dim: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.head = FCOSHead(
            input_shape=[ShapeSpec(channels=embed_dim)] * len(strides),
            conv_dims=[embed_dim],
            num_classes=num_classes,
            norm="GN",
        )
        self.anchors = AnchorGenerator(
            sizes=[[8 * stride] for stride in strides], aspect_ratios=[1.0], strides=strides
        )
        self.transform = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))

    def forward(
        self, levels: Sequence[Tensor], gt: Sequence[Instances]
    ) -> tuple[dict[str, Tensor], list[Assigned]]:
        """Losses and anchors with their assignment, of levels (B, C, H, W)."""
        anchors = [level.tensor for level in self.anchors(levels)]
        target = torch.stack([self._assign(x, anchors) for x in gt])  # (B, S)
        boxes = torch.cat(anchors)
        predicted = [_by_place(kind).float() for kind in self.head(levels)]
        tokens = _by_place(levels)
        candidates = [Assigned(boxes, *image) for image in zip(tokens, target, strict=True)]
        return self.losses(*predicted, boxes, target, gt), candidates

    def losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        centre_logits: Tensor,
        anchors: Tensor,
        target: Tensor,
        gt: Sequence[Instances],
    ) -> dict[str, Tensor]:
        """Focal loss of logits (B, S, K); GIoU loss of the boxes that deltas (B, S, 4) make of
        anchors (S, 4), weighted by the centreness that centre_logits (B, S, 1) are to predict;
        target (B, S) as in :class:`Assigned`. Divided by their weight per process."""
        # Over all anchors, with zeros for those without a box: their number stays on the device.
        positive, owner = target >= 0, target.clamp(min=0)
        anchors = anchors.expand(len(target), -1, -1)
        boxes = torch.cat([*(x.gt_boxes.tensor for x in gt), anchors[0, :1]])[owner]
        labels = F.pad(torch.cat([x.gt_classes for x in gt]), (0, 1))[owner]
        classes = torch.zeros_like(logits).scatter_(2, labels[..., None], positive[..., None] * 1.0)
        centre = centreness(anchors, boxes).where(positive, 0)
        predicted = self.transform.apply_deltas(deltas.flatten(0, 1), anchors.flatten(0, 1))
        giou = overlaps(predicted.view_as(boxes), boxes)[1]
        count = mean_over_ranks(positive.sum().float(), logits.device).clamp(min=1)
        weight = mean_over_ranks(centre.sum(), logits.device).clamp(min=1)
        focal = sigmoid_focal_loss(logits, classes, alpha=0.25, gamma=2, reduction="sum")
        bce = F.binary_cross_entropy_with_logits(centre_logits[..., 0], centre, reduction="none")
        return {
            "loss_atss_cls": focal / count,
            "loss_atss_box": 2 * ((1 - giou) * centre).sum() / weight,
            "loss_atss_centre": (bce * positive).sum() / count,
        }

    def _assign(self, gt: Instances, anchors: Sequence[Tensor]) -> Tensor:
        target = atss_assign(gt.gt_boxes.tensor, anchors)
        return target if not len(gt) else torch.where(target < 0, target, target + gt.gt_index[0])


def _by_place(levels: Sequence[Tensor]) -> Tensor:
    """Levels (B, C, H, W) as (B, S, C)."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
