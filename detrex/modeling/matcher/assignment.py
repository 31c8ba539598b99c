"""Solving many assignment problems with one copy from the device.

Legend: B images, L layers, N queries, G targets of an image, M matches of all layers and images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


class Matches(NamedTuple):
    """Which query answers for which target; each (M,) int64.

    ``target`` counts through the targets of all images, one after the other.
    """

    layer: Tensor
    image: Tensor
    query: Tensor
    target: Tensor

    def bags(self) -> Tensor:
        """A number (M,) that matches of the same layer and target share."""
        return self.layer * 2**32 + self.target

    def to(self, device: torch.device) -> Matches:
        return Matches(*(x.to(device, non_blocking=True) for x in self))

    def on_layers(self, count: int) -> Matches:
        """The same assignment for each of ``count`` layers."""
        layer = torch.arange(count, device=self.image.device).repeat_interleave(len(self.image))
        return Matches(layer, *(x.repeat(count) for x in (self.image, self.query, self.target)))


def assign(
    costs: Sequence[Tensor], copies: int = 1, per_layer: Sequence[int] | None = None
) -> Matches:
    """Minimise the total cost of each layer and image, every target taken ``copies`` times.

    costs: for each image (L, N, G). With more (copied) targets than queries every query gets one
    and the dearest targets stay without. ``per_layer`` gives each layer its own number of copies,
    lowered for a crowded image to what half of the queries can serve, but never below one.
    """
    device = costs[0].device
    host = torch.cat([cost.float().flatten() for cost in costs]).cpu()
    # A diverged model gives NaN costs; the loss says so, an exception from the solver would not.
    host = torch.nan_to_num(host, nan=1e8, posinf=1e8, neginf=-1e8).numpy()
    rows, begin, first_target = [], 0, 0
    for image, cost in enumerate(costs):
        block = host[begin : begin + cost.numel()].reshape(cost.shape)
        for layer, problem in enumerate(block):
            repeats = copies if per_layer is None else _fitting(per_layer[layer], *problem.shape)
            query, column = linear_sum_assignment(np.tile(problem, (1, repeats)))
            target = first_target + column % max(cost.shape[-1], 1)
            rows.append(np.stack(np.broadcast_arrays(layer, image, query, target)))
        begin += cost.numel()
        first_target += cost.shape[-1]
    return Matches(*torch.from_numpy(np.concatenate(rows, 1)).long().to(device))


def _fitting(copies: int, queries: int, targets: int) -> int:
    return max(1, min(copies, queries // (2 * max(targets, 1))))
