"""D-FINE's denoising queries: contrastive ones, with padding that is drawn for, too.

Legend: B images, G targets of the fullest image, R copies of each target, N = R * G denoising
queries, C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detrex.layers import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh
from detrex.layers.denoising import copy_places
from detrex.modeling.denoising import known_queries
from detrex.modeling.matcher.matcher import Targets
from detrex.modeling.queries import Queries
from detrex.utils import inverse_sigmoid
from detrex.utils.device import send


def denoising_queries(
    targets: Targets,
    embedding: nn.Embedding,
    number: int = 100,
    label_noise: float = 0.5,
    box_noise: float = 1.0,
    eps: float = 1e-5,
) -> Queries:
    """:func:`~detrex.modeling.denoising.contrastive_denoising` as D-FINE's released code has it.

    Padding has the label of the embedding's last row and a box at the image's corner, and random
    numbers are drawn for it. Sides that noise turns over count by their length. Coordinates are
    at least ``eps`` away from 0 and 1.
    """
    counts = [len(t["labels"]) for t in targets]
    copies = 2 * max(1, number // max(*counts, 1))
    place = copy_places(counts, 1)
    labels, boxes = padded(targets, embedding.num_embeddings - 1, place)
    labels, boxes = labels.repeat(1, copies), boxes.repeat(1, copies, 1)
    labels = noised_labels(labels, label_noise / 2, embedding.num_embeddings - 1)
    boxes = noised_boxes(boxes, box_noise, copies // 2)
    logits = inverse_sigmoid(boxes, eps)
    image, query = (x[::2] for x in copy_places(counts, copies))
    return known_queries(embedding(labels), logits, copies // 2, image, query)


def padded(targets: Targets, spare: int, place: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Labels (B, G), ``spare`` where an image has fewer targets, and boxes (B, G, 4), zero there;
    ``place``: image and slot of every target."""
    labels, boxes = (torch.cat([t[key] for t in targets]) for key in ("labels", "boxes"))
    shape = (len(targets), max(len(t["labels"]) for t in targets))
    index = tuple(send(torch.stack([x.flatten() for x in place]), boxes.device).unbind())
    return (
        labels.new_full(shape, spare).index_put(index, labels),
        boxes.new_zeros(*shape, 4).index_put(index, boxes),
    )


def noised_labels(labels: Tensor, probability: float, classes: int) -> Tensor:
    """Labels (B, N), each drawn anew from ``range(classes)`` with that probability, but for
    padding, whose label is ``classes``."""
    drawn = torch.rand_like(labels, dtype=torch.float32) < probability
    return torch.where(drawn & (labels != classes), torch.randint_like(labels, classes), labels)


def noised_boxes(boxes: Tensor, scale: float, blocks: int) -> Tensor:
    """Boxes (B, N, 4) with corners that move by 0 to 1 half sides times ``scale`` in the first half
    of each block, and by 1 to 2 in the second."""
    sign = torch.randint_like(boxes, 0, 2) * 2 - 1
    reach = torch.rand_like(boxes).unflatten(1, (blocks, 2, -1))
    reach = torch.cat([reach[:, :, :1], reach[:, :, 1:] + 1], 2).view_as(boxes)
    shift = sign * reach * boxes[..., 2:].repeat(1, 1, 2) / 2 * scale
    return box_xyxy_to_cxcywh((box_cxcywh_to_xyxy(boxes) + shift).clamp(0, 1)).abs()
