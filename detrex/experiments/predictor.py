"""A trained model, ready to be shown single images.

Legend: L layers, N queries, K classes; boxes are x0, y0, x1, y1 in pixels of the given image.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.data import transforms as T
from torch import Tensor

from detrex.checkpoint import load_weights
from detrex.checkpoint.files import read_checkpoint
from detrex.data.dataset_info import num_classes_fields
from detrex.data.image import FastAugInput, to_tensor
from detrex.engine.settings import load_config
from detrex.layers import box_cxcywh_to_xyxy
from detrex.modeling.detector import Detector
from detrex.modeling.queries import Queries
from detrex.utils.errors import InputError


class Found(NamedTuple):
    """One thing that a detector says is there."""

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


class Predictor:
    """The model of a checkpoint.

    Args:
        checkpoint: file of weights.
        config_file: the model's config; None takes the ``config.yaml`` beside the checkpoint.

    Raises:
        InputError: files that are missing, unreadable or do not belong together.
    """

    def __init__(self, checkpoint: str | Path, config_file: str | Path | None = None) -> None:
        beside = Path(checkpoint).parent / "config.yaml"
        if not Path(checkpoint).is_file():
            raise InputError(f"{checkpoint}: no such checkpoint")
        if config_file is None and not beside.is_file():
            raise InputError(f"{checkpoint}: no config.yaml beside it: give --config-file")
        self.config = load_config(str(config_file or beside))
        metadata = read_checkpoint(checkpoint).get("metadata") or {}
        self.classes: list[str] | None = metadata.get("classes")
        if self.classes:
            for _, _, node in num_classes_fields(self.config.model, "model"):
                node["num_classes"] = len(self.classes)
        mapper = instantiate(self.config.dataloader.test.mapper)
        self.image_format = mapper.img_format
        self.augmentation = T.AugmentationList(mapper.augmentation)
        self.model = instantiate(self.config.model).eval()
        load_weights(self.model, str(checkpoint), strict=True)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model.to(device)

    def name(self, label: int) -> str:
        """Of a class; its number if the checkpoint does not know names."""
        return self.classes[label] if self.classes else str(label)

    @torch.no_grad()
    def detect(self, image: np.ndarray) -> list[Found]:
        """Detections in an RGB image (H, W, 3), best first."""
        found = self.model([self._input(image)])[0]["instances"]
        parts = found.pred_boxes.tensor, found.pred_classes, found.scores
        entries = [Found(*e) for e in zip(*(part.tolist() for part in parts), strict=True)]
        return sorted(entries, key=lambda e: -e.score)

    @torch.no_grad()
    def paths(self, image: np.ndarray) -> list[QueryPath]:
        """Every query of an RGB image (H, W, 3) through all layers, the last layer's best first.

        Methods that re-order queries between layers (Rank-DETR) are followed. Raises InputError
        for a model that is no ``Detector``.
        """
        model = self.model
        if not isinstance(model, Detector):
            raise InputError(f"the queries of a {type(model).__name__} cannot be followed")
        memory = model.encode(model.preprocess([self._input(image)]))
        made, _ = model.make_queries(memory, None)
        tracked = TrackedQueries(**{f.name: getattr(made, f.name) for f in fields(Queries)})
        found = model.decode(tracked, memory)
        size = found.boxes.new_tensor([image.shape[1], image.shape[0]] * 2)
        count, _, width, _ = found.boxes.shape  # (L, 1, N, 4)
        layers = []
        for i, place in enumerate(places(tracked.orders, count, width)):
            scores, labels = model.probabilities(model.scores(found, i))[0].max(-1)  # (N,)
            boxes = box_cxcywh_to_xyxy(found.boxes[i, 0].float()) * size
            ranks = scores.argsort(descending=True, stable=True).argsort() + 1
            parts = [part[place].tolist() for part in (boxes, labels, scores, ranks)]
            layers.append([(Found(*entry[:3]), entry[3]) for entry in zip(*parts, strict=True)])
        queries = zip(*layers, strict=True)
        paths = [QueryPath([found for found, _ in q], [rank for _, rank in q]) for q in queries]
        return sorted(paths, key=lambda path: path.ranks[-1])

    def _input(self, image: np.ndarray) -> dict:
        ordered = image if self.image_format == "RGB" else image[:, :, ::-1]
        moved = FastAugInput(np.ascontiguousarray(ordered))
        self.augmentation(moved)
        height, width = image.shape[:2]
        return {"image": to_tensor(moved.image), "height": height, "width": width}


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
