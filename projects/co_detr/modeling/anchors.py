"""detectron2's anchors and their matcher, made on the device: the host does not wait for them.

Legend: B images, S_l anchors of a level, G boxes, R candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.matcher import Matcher
from torch import Tensor


class AnchorGenerator(DefaultAnchorGenerator):
    """As its base, which makes the centres on the CPU and copies them."""

    def _grid_anchors(self, grid_sizes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Anchors (S_l, 4), xyxy in pixels, of levels of these sizes (height, width)."""
        anchors = []
        levels = zip(grid_sizes, self.strides, self.cell_anchors, strict=True)
        for size, stride, cells in levels:
            y, x = ((torch.arange(n, device=cells.device) + self.offset) * stride for n in size)
            y, x = torch.meshgrid(y, x, indexing="ij")
            centres = torch.stack([x, y, x, y], -1).view(-1, 1, 4)
            anchors.append((centres + cells).flatten(0, 1))
        return anchors


class WaitlessMatcher(Matcher):
    """As its base, which indexes with masks and asks whether the overlaps are sound."""

    def __call__(self, overlap: Tensor) -> tuple[Tensor, Tensor]:
        """Of overlaps (G, R) the box (R,) of each candidate and its label (R,), an int8."""
        if not overlap.numel():
            return super().__call__(overlap)
        best, matches = overlap.max(0)
        labels = torch.ones_like(matches, dtype=torch.int8)
        limits = zip(self.labels, self.thresholds[:-1], self.thresholds[1:], strict=True)
        for label, low, high in limits:
            labels = labels.masked_fill((best >= low) & (best < high), label)
        if self.allow_low_quality_matches:
            labels = labels.masked_fill((overlap == overlap.amax(1, True)).any(0), 1)
        return matches, labels
