"""How the queries of a model move through its decoder.

Legend: L layers, N queries, K classes; boxes are x0, y0, x1, y1 in pixels of the given image.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import NamedTuple

import torch
from torch import Tensor

from detrex.engine.predictor import Predictor
from detrex.layers import box_cxcywh_to_xyxy
from detrex.modeling.detector import Detector
from detrex.modeling.queries import Queries
from detrex.utils.errors import InputError


class Found(NamedTuple):
    """One thing that a query says is there."""

    box: list[float]
    label: int
    score: float


class QueryPath(NamedTuple):
    """A query through the decoder: box, label, score and rank (1 = best) after each layer."""

    found: list[Found]
    ranks: list[int]


@dataclass
class TrackedQueries(Queries):
    """Queries that note how the decoder re-orders them, layer by layer."""

    orders: list[Tensor] = field(default_factory=list)

    def reorder(self, order: Tensor) -> Queries:
        self.orders.append(order)
        return super().reorder(order)


@torch.no_grad()
def query_paths(predictor: Predictor, image: object) -> list[QueryPath]:
    """Every query of an image (any kind) through all layers, the last layer's best first.

    Methods that re-order queries between layers (Rank-DETR) are followed. Raises InputError
    for a model that is no ``Detector``.
    """
    model = predictor.model
    if not isinstance(model, Detector):
        raise InputError(f"the queries of a {type(model).__name__} cannot be followed")
    inputs, orders = predictor.inputs(image), []

    def track(decoder: object, arguments: tuple) -> tuple:
        queries = {f.name: getattr(arguments[0], f.name) for f in fields(Queries)}
        return (TrackedQueries(**queries, orders=orders), *arguments[1:])

    handle = model.transformer.decoder.register_forward_pre_hook(track)
    try:
        found, _ = model.run(model.encode(model.preprocess([inputs])))
    finally:
        handle.remove()
    size = found.boxes.new_tensor([inputs["width"], inputs["height"]] * 2)
    count, _, width, _ = found.boxes.shape  # (L, 1, N, 4)
    layers = []
    for i, place in enumerate(places(orders, count, width)):
        scores, labels = model.probabilities(model.scores(found, i))[0].max(-1)  # (N,)
        boxes = box_cxcywh_to_xyxy(found.boxes[i, 0].float()) * size
        ranks = scores.argsort(descending=True, stable=True).argsort() + 1
        parts = [part.cpu()[place].tolist() for part in (boxes, labels, scores, ranks)]
        layers.append([(Found(*entry[:3]), entry[3]) for entry in zip(*parts, strict=True)])
    queries = zip(*layers, strict=True)
    paths = [QueryPath([found for found, _ in q], [rank for _, rank in q]) for q in queries]
    return sorted(paths, key=lambda path: path.ranks[-1])


def places(orders: list[Tensor], layers: int, queries: int) -> list[Tensor]:
    """Where each of the first layer's queries stands in every layer: L tensors (N,).

    ``orders[i]`` (1, N): which query of layer i became the n-th of layer i + 1; an empty list when
    the decoder never re-orders.
    """
    found = [torch.arange(queries)]
    for i in range(layers - 1):
        moved = orders[i][0].cpu().argsort() if orders else found[0]
        found.append(moved[found[-1]])
    return found
