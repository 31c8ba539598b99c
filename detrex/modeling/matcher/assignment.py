"""Solving the assignments of all supervised sets with one copy from the device and one back.

Legend: L layers, N queries, G targets of an image, M matches of all layers and images of a set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from detrex.utils.device import HostCopy, send

from .solver import solve


class Matches(NamedTuple):
    """The pairs of query and target, each field (M,) int64.

    ``target`` is an index into the targets of all images, concatenated.
    """

    layer: Tensor
    image: Tensor
    query: Tensor
    target: Tensor

    @property
    def place(self) -> tuple[Tensor, Tensor, Tensor]:
        """Index of the matched queries in a tensor (L, B, N, ...)."""
        return self.layer, self.image, self.query

    def bags(self) -> Tensor:
        """A number (M,) that matches of the same layer and target share."""
        return self.layer * 2**32 + self.target

    def to(self, device: torch.device) -> Matches:
        return Matches(*(send(x, device) for x in self))

    def by_image(self, layer: int, counts: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Queries and targets (M,) of one layer for every image, targets counted within the image;
        ``counts``: number of targets of each image."""
        first, pairs = 0, []
        for image, count in enumerate(counts):
            chosen = (self.layer == layer) & (self.image == image)
            pairs.append((self.query[chosen], self.target[chosen] - first))
            first += count
        return pairs

    def wait(self) -> Matches:
        """Themselves: they are here already (see :class:`PendingMatches`)."""
        return self

    def on_layers(self, count: int) -> Matches:
        """The same assignment for each of ``count`` layers."""
        layer = torch.arange(count, device=self.image.device).repeat_interleave(len(self.image))
        return Matches(layer, *(x.repeat(count) for x in (self.image, self.query, self.target)))


class Problems(NamedTuple):
    """The assignments to be solved for a set: costs (L, N, G) of each image, and how many queries a
    target takes in each layer.

    ``share``: in a crowded image that number is lowered until at most this share of the queries is
    matched, but not below one; None: it stays. When queries run out, the targets of highest cost
    stay unmatched.
    """

    costs: Sequence[Tensor]
    copies: Sequence[int]
    share: float | None = None

    def per_image(self) -> list[list[int]]:
        """``copies`` of every image and layer, lowered where ``share`` says so."""
        if self.share is None:
            return [list(self.copies)] * len(self.costs)
        sizes = (cost.shape[1:] for cost in self.costs)
        most = [max(1, int(self.share * queries) // max(count, 1)) for queries, count in sizes]
        return [[min(k, limit) for k in self.copies] for limit in most]


class Assignment:
    """Least total cost for every layer and image of all sets.

    The constructor starts the copy of all costs to the host, and :meth:`solve` waits for it: in
    between the device can do work that needs no matches.
    """

    def __init__(self, sets: Sequence[Problems]) -> None:
        self.sets = sets
        costs = [cost.mT.float().contiguous() for problems in sets for cost in problems.costs]
        self.device = costs[0].device if costs else torch.device("cpu")
        self._shapes = [cost.shape for cost in costs]  # (L, G, N)
        self._copy = HostCopy(torch.cat([x.flatten() for x in costs] or [torch.empty(0)]))

    def solve(self) -> list[Matches]:
        """The matches of every set, on the device of the costs; image after image, by layers."""
        return send_matches(self.solve_on_host(), self.device)

    def solve_on_host(self) -> list[Matches]:
        """:meth:`solve`, but the matches stay on the host."""
        origins = np.array(self._origins(), np.int64).reshape(-1, 5)
        problems = [problem for cost in self._costs() for problem in cost]
        solved = solve(problems, origins[:, 4].tolist())
        rows = np.repeat(origins, [pairs.shape[1] for pairs in solved], axis=0).T
        query, target = np.concatenate([np.empty((2, 0), np.int64), *solved], axis=1)
        matches = torch.from_numpy(np.stack([rows[1], rows[2], query, rows[3] + target]))
        sizes = np.bincount(rows[0], minlength=len(self.sets)).tolist()
        return [Matches(*x.unbind()) for x in matches.split(sizes, 1)]

    def _origins(self) -> list[tuple[int, int, int, int, int]]:
        """For every problem: set, layer, image, number of its first target, copies."""
        origins = []
        for number, problems in enumerate(self.sets):
            first = 0
            for image, copies in enumerate(problems.per_image()):
                origins += [(number, layer, image, first, k) for layer, k in enumerate(copies)]
                first += problems.costs[image].shape[2]
        return origins

    def _costs(self) -> list[np.ndarray]:
        """The costs (L, G, N) of every image of every set, once they are copied."""
        flat = self._copy.wait().numpy()
        ends = np.cumsum([shape.numel() for shape in self._shapes])
        costs = np.split(flat, ends[:-1]) if self._shapes else []
        return [cost.reshape(shape) for cost, shape in zip(costs, self._shapes, strict=True)]


def send_matches(matches: Sequence[Matches], device: torch.device) -> list[Matches]:
    """Matches of the host on a device, in one copy for which nothing waits."""
    sizes = [len(m.query) for m in matches]
    columns = [torch.stack(m) for m in matches] or [torch.empty(4, 0, dtype=torch.int64)]
    packed = send(torch.cat(columns, 1), device, pin=True)
    return [Matches(*x.unbind()) for x in packed.split(sizes, 1)] if sizes else []


def assign(
    costs: Sequence[Tensor], copies: int = 1, per_layer: Sequence[int] | None = None
) -> Matches:
    """The assignment of one set: costs (L, N, G) of each image, on the device of the costs.

    Every target is matched to ``copies`` queries. ``per_layer`` has a number for each layer
    instead, which is lowered until at most half of the queries are matched.
    """
    layers, share = len(costs[0]), 0.5 if per_layer else None
    return Assignment([Problems(costs, per_layer or [copies] * layers, share)]).solve()[0]
