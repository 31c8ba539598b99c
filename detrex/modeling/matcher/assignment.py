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


def assign(costs: Sequence[Tensor], copies: int = 1) -> Matches:
    """Minimise the total cost of each layer and image, every target taken ``copies`` times.

    costs: for each image (L, N, G). With more (copied) targets than queries every query gets one
    and the dearest targets stay without.
    """
    device = costs[0].device
    host = torch.cat([cost.float().flatten() for cost in costs]).cpu()
    # A diverged model gives NaN costs; the loss says so, an exception from the solver would not.
    host = torch.nan_to_num(host, nan=1e8, posinf=1e8, neginf=-1e8).numpy()
    rows, begin, first_target = [], 0, 0
    for image, cost in enumerate(costs):
        block = host[begin : begin + cost.numel()].reshape(cost.shape)
        for layer, problem in enumerate(block):
            query, column = linear_sum_assignment(np.tile(problem, (1, copies)))
            target = first_target + column % max(cost.shape[-1], 1)
            rows.append(np.stack(np.broadcast_arrays(layer, image, query, target)))
        begin += cost.numel()
        first_target += cost.shape[-1]
    return Matches(*torch.from_numpy(np.concatenate(rows, 1)).long().to(device))
