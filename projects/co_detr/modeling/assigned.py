"""What an auxiliary head hands to the decoder.

Legend: B images, R candidates of an image, G boxes, C channels; boxes are xyxy in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from detrex.layers import box_cxcywh_to_xyxy


class Assigned(NamedTuple):
    """A head's candidates with their assignment: boxes (R, 4), features (R, C), target (R,).

    ``target`` counts through the boxes of all images, -1 = background.
    """

    boxes: Tensor
    features: Tensor
    target: Tensor


def pixel_instances(targets: Sequence[dict]) -> list[Instances]:
    """The targets of a batch as detectron2's heads want them, with ``gt_index``, their number
    counted through all images."""
    instances, first = [], 0
    for target in targets:
        height, width = target["size"]
        boxes = box_cxcywh_to_xyxy(target["boxes"])
        scale = boxes.new_tensor([width, height, width, height])
        index = torch.arange(first, first + len(boxes), device=boxes.device)
        fields = dict(gt_boxes=Boxes(boxes * scale), gt_classes=target["labels"], gt_index=index)
        instances.append(Instances((height, width), **fields))
        first += len(boxes)
    return instances


def choose(candidates: Sequence[Assigned], limit: int = 300) -> Assigned:
    """As many candidates of every image, all stacked along B: its positives, at most ``limit`` of
    them drawn at random, and random negatives where another image has more."""
    most = max(int((a.target >= 0).sum()) for a in candidates)
    size = min(limit, most, *(len(a.target) for a in candidates))

    def pick(a: Assigned) -> Assigned:
        order = ((a.target >= 0) + torch.rand_like(a.boxes[:, 0])).topk(size).indices
        return Assigned(*(x[order] for x in a))

    return Assigned(*map(torch.stack, zip(*map(pick, candidates), strict=True)))
