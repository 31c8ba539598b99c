"""How the queries of a model move through its decoder.

Legend: L layers, N queries, K classes; boxes are x0, y0, x1, y1 in pixels of the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import NamedTuple

import torch
from torch import Tensor

from detrex.layers import box_cxcywh_to_xyxy
from detrex.modeling.detector import Detector
from detrex.modeling.queries import Queries
from detrex.predict.predictor import Predictor
from detrex.utils.errors import InputError


class Detection(NamedTuple):
    """A query's best class after a layer, with its box and score."""

    box: list[float]
    label: int
    score: float


class QueryPath(NamedTuple):
    """A query's detection and its rank (1 = best) after each layer."""

    detections: list[Detection]
    ranks: list[int]


@dataclass
class TrackedQueries(Queries):
    """Queries that record how the decoder re-orders them, layer by layer."""

    orders: list[Tensor] = field(default_factory=list)

    def reorder(self, order: Tensor) -> Queries:
        self.orders.append(order)
        return super().reorder(order)


@torch.no_grad()
def query_paths(predictor: Predictor, image: object) -> list[QueryPath]:
    """The path of every query of an image, the last layer's best first.

    ``image``: as a predictor takes it. Queries that are re-ordered between layers (Rank-DETR) are
    followed.

    Raises:
        InputError: the model is no ``Detector``.
    """
    model = predictor.model
    if not isinstance(model, Detector):
        raise InputError(f"the queries of a {type(model).__name__} cannot be followed")
    inputs = predictor.inputs(image)
    memory = model.encode(model.preprocess([inputs]))
    queries = model.make_queries(memory, None)
    queries = TrackedQueries(**{f.name: getattr(queries, f.name) for f in fields(Queries)})
    outputs = model.decode(queries, memory)
    size = outputs.boxes.new_tensor([inputs["width"], inputs["height"]] * 2)
    layers, _, count, _ = outputs.boxes.shape  # (L, 1, N, 4)
    paths = [QueryPath([], []) for _ in range(count)]
    for i, indices in enumerate(query_indices(queries.orders, layers, count)):
        scores, labels = model.probabilities(model.scores(outputs, i))[0].max(-1)  # (N,)
        boxes = box_cxcywh_to_xyxy(outputs.boxes[i, 0].float()) * size
        ranks = scores.argsort(descending=True, stable=True).argsort() + 1
        columns = [values.cpu()[indices].tolist() for values in (boxes, labels, scores, ranks)]
        for path, (*detection, rank) in zip(paths, zip(*columns, strict=True), strict=True):
            path.detections.append(Detection(*detection))
            path.ranks.append(rank)
    return sorted(paths, key=lambda path: path.ranks[-1])


def query_indices(orders: list[Tensor], layers: int, queries: int) -> list[Tensor]:
    """The index of each of the first layer's queries in every layer: L tensors (N,).

    ``orders[i]`` (1, N): which query of layer i became the n-th of layer i + 1; an empty list when
    the decoder never re-orders.
    """
    indices = [torch.arange(queries)]
    for i in range(layers - 1):
        moved = orders[i][0].cpu().argsort() if orders else indices[0]
        indices.append(moved[indices[-1]])
    return indices
