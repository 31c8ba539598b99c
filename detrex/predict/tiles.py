"""Detection in tiles: for images much larger than the model's input, and for small objects.

An image is cut into overlapping tiles of one size. The model sees the whole image, which shows
large objects, and every tile, resized like an image of its own. Boxes are x0, y0, x1, y1 in pixels
of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from detrex.layers.box_ops import box_area, overlaps
from detrex.utils.errors import InputError

SAME = 0.5  # IoU, or share of a cut box, from which two boxes of a class are one object
EDGE = 0.01  # of a tile's side: a box that ends nearer to its border is cut


class Span(NamedTuple):
    """A tile along one axis, pixels: where it begins and ends, where the tile before it ends, and
    where the one after it begins (infinite: there is none, the image ends)."""

    start: int
    stop: int
    before: float = -math.inf
    after: float = math.inf


class Window(NamedTuple):
    """What the model sees at once."""

    x: Span
    y: Span


@dataclass(frozen=True)
class Tiles:
    """How images are cut, and their detections merged.

    Args:
        side: of a tile, pixels of the image. An image that is not larger is not cut.
        overlap: the least share of a side that neighbouring tiles have in common, from 0 to 0.9:
            objects smaller than that are whole in one of the tiles.

    Raises:
        InputError: numbers out of range.
    """

    side: int
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if self.side < 1:
            raise InputError(f"tiles of side {self.side}: give 1 pixel or more")
        if not 0 <= self.overlap <= 0.9:
            raise InputError(f"overlap {self.overlap} of tiles: give a share from 0 to 0.9")

    def windows(self, height: int, width: int) -> list[Window]:
        """The whole image, and its tiles row by row; the image alone if it is no larger."""
        whole = Window(Span(0, width), Span(0, height))
        columns, rows = self._spans(width), self._spans(height)
        tiles = [Window(column, row) for row in rows for column in columns]
        return [whole] if tiles == [whole] else [whole, *tiles]

    def _spans(self, length: int) -> list[Span]:
        """Tiles at equal distances, the last of which ends where the image does."""
        side = min(self.side, length)
        count = 1 + math.ceil((length - side) / max(1, int(side * (1 - self.overlap))))
        starts = [i * (length - side) // max(1, count - 1) for i in range(count)]
        before = [-math.inf, *(start + side for start in starts[:-1])]
        after = [*starts[1:], math.inf]
        stops = [start + side for start in starts]
        return [Span(*span) for span in zip(starts, stops, before, after, strict=True)]

    def merge(
        self, size: tuple[int, int], windows: Sequence[Window], detections: Sequence[Instances]
    ) -> Instances:
        """Detections in an image of ``size`` (height, width), best score first.

        Of boxes of one class from different windows that are one object the best-scored stays; what
        one window shows is left as the model returned it. A box that ends at a border inside the
        image is cut. If it lies in the overlap, the neighbour shows more of its object, and it is
        dropped. Else the object is larger than the overlap, and the box goes if half of it is
        inside a better one, such as that of the whole image.

        Args:
            size: of the image.
            windows: of :meth:`windows`.
            detections: in each of them, in its pixels.
        """
        if len(windows) == 1:
            return detections[0]
        boxes, cut, shown = zip(*map(self._placed, windows, detections), strict=True)
        indices = [torch.full_like(x.pred_classes, i) for i, x in enumerate(detections)]
        boxes, cut, shown, window = map(torch.cat, (boxes, cut, shown, indices))
        scores = torch.cat([x.scores for x in detections])
        labels = torch.cat([x.pred_classes for x in detections])
        left = (~shown).nonzero()[:, 0]
        groups = torch.stack([labels, window], 1)[left]
        left = left[_distinct(boxes[left], scores[left], groups, cut[left])]
        fields = dict(scores=scores[left], pred_classes=labels[left])
        return Instances(size, pred_boxes=Boxes(boxes[left]), **fields)

    def _placed(self, window: Window, detections: Instances) -> tuple[Tensor, Tensor, Tensor]:
        """The boxes (N, 4) in the image, which are cut, and of which a neighbour shows more (N)."""
        start = torch.tensor([window.x.start, window.y.start] * 2)
        boxes = detections.pred_boxes.tensor + start
        cut = torch.zeros(len(boxes), dtype=torch.bool)
        shown, edge = cut.clone(), EDGE * self.side
        for span, low, high in zip(window, boxes[:, :2].T, boxes[:, 2:].T, strict=True):
            at_start = (low <= span.start + edge) & (span.before > -math.inf)
            at_stop = (high >= span.stop - edge) & (span.after < math.inf)
            cut |= at_start | at_stop
            shown |= at_start & (high < span.before - edge) | at_stop & (low > span.after + edge)
        return boxes, cut, shown


def _distinct(boxes: Tensor, scores: Tensor, groups: Tensor, cut: Tensor) -> Tensor:
    """Indices of the boxes (N, 4) that no better-scored box shows as well, greedily.

    groups (N, 2) are label and window; cut (N) says which boxes a tile cuts.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, groups, cut = boxes[order], groups[order], cut[order]
    areas, alive, left = box_area(boxes), torch.ones(len(boxes), dtype=torch.bool), []
    for i in range(len(boxes)):
        if not alive[i]:
            continue
        left.append(i)
        iou, _, union = overlaps(boxes[i], boxes[i + 1 :])
        common = areas[i] + areas[i + 1 :] - union
        inside = cut[i + 1 :] & (common > SAME * areas[i + 1 :])
        others = (groups[i + 1 :, 0] == groups[i, 0]) & (groups[i + 1 :, 1] != groups[i, 1])
        alive[i + 1 :] &= ~(others & ((iou > SAME) | inside))
    return order[left]
