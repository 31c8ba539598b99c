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
from detrex.utils.device import HostCopy, send


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
        boxes = box_cxcywh_to_xyxy(target["boxes"])
        boxes = Boxes(boxes * scale(target["size"], boxes))
        index = torch.arange(first, first + len(boxes), device=boxes.device)
        fields = dict(gt_boxes=boxes, gt_classes=target["labels"], gt_index=index)
        instances.append(Instances(target["size"], **fields))
        first += len(boxes)
    return instances


def scale(size: tuple[int, int], boxes: Tensor) -> Tensor:
    """(width, height, width, height) of an image of that height and width, beside the boxes."""
    height, width = size
    return send(torch.tensor([width, height] * 2, dtype=boxes.dtype), boxes.device)


def count_positives(heads: Sequence[Sequence[Assigned]]) -> list[list[int]]:
    """How many of each head's candidates of each image are positive; the host waits once."""
    counts = [torch.stack([(a.target >= 0).sum() for a in candidates]) for candidates in heads]
    return HostCopy(torch.stack(counts)).wait().numpy().tolist()


def choose(candidates: Sequence[Assigned], positives: Sequence[int], limit: int = 300) -> Assigned:
    """As many candidates of every image, all stacked along B: first its ``positives``, at most
    ``limit`` of them drawn at random, then random negatives where another image has more."""
    size = min(limit, *(len(a.target) for a in candidates), max(positives))

    def pick(a: Assigned) -> Assigned:
        order = ((a.target >= 0) + torch.rand_like(a.boxes[:, 0])).topk(size).indices
        return Assigned(*(x[order] for x in a))

    return Assigned(*map(torch.stack, zip(*map(pick, candidates), strict=True)))
