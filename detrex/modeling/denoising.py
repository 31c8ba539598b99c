"""Denoising queries: noisy copies of the targets, from which the decoder recovers the targets.

DN-DETR (Li et al., CVPR 2022) and its contrastive form in DINO (Zhang et al., ICLR 2023). Both
take the label embedding as an argument, because it belongs to the model.

Legend: B images, N denoising queries, G targets of all images, R noisy copies of each target,
C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detrex.layers import GenerateDNQueries, box_cxcywh_to_xyxy, box_xyxy_to_cxcywh
from detrex.layers.denoising import apply_label_noise, copy_places, pad_copies
from detrex.modeling.matcher import Matches
from detrex.modeling.matcher.matcher import Targets
from detrex.modeling.queries import Queries, QueryGroup


def contrastive_denoising(
    targets: Targets,
    embedding: nn.Embedding,
    number: int = 100,
    label_noise: float = 0.5,
    box_noise: float = 1.0,
    negative_step: float = 1.0,
    spare_labels: int = 0,
    eps: float = 1e-3,
) -> Queries:
    """DINO's set: per block a positive and a negative copy of every target (section 3.3).

    In units of ``box_noise`` times half the box's size, the corners of a positive move by 0 to 1,
    those of a negative by ``negative_step`` to ``negative_step`` + 1. A label is drawn anew with
    probability ``label_noise`` / 2. There are ``number`` // (targets of the fullest image) blocks,
    but at least one. No label is one of the ``spare_labels`` last rows of the embedding; ``eps``:
    see :func:`~detrex.layers.denoising.pad_copies`.
    """
    labels, boxes = (torch.cat([t[key] for t in targets]) for key in ("labels", "boxes"))
    counts = [len(t["labels"]) for t in targets]
    blocks = max(1, number // max(*counts, 1))
    labels = labels.repeat(2 * blocks)
    classes = embedding.num_embeddings - spare_labels
    labels = apply_label_noise(labels, label_noise * 0.5, classes)
    boxes = boxes.repeat(2 * blocks, 1)
    sign = torch.randint_like(boxes, 0, 2) * 2 - 1
    reach = torch.rand_like(boxes).view(blocks, 2, -1, 4)
    reach = torch.cat([reach[:, :1], reach[:, 1:] + negative_step], 1).view_as(boxes)
    shift = sign * reach * boxes[:, 2:].repeat(1, 2) / 2 * box_noise
    boxes = box_xyxy_to_cxcywh((box_cxcywh_to_xyxy(boxes) + shift).clamp(0, 1))
    content, boxes = pad_copies(embedding(labels), boxes, counts, 2 * blocks, eps)
    positives = copy_places(counts, 2 * blocks)
    return known_queries(content, boxes, blocks, *(x[::2] for x in positives))


def plain_denoising(targets: Targets, generator: GenerateDNQueries) -> Queries:
    """DN-DETR's set: every block of the generator's queries has one copy of every target."""
    labels, boxes = ([t[key] for t in targets] for key in ("labels", "boxes"))
    content, boxes = generator.noised(labels, boxes)
    blocks = generator.denoising_groups
    return known_queries(content, boxes, blocks, *copy_places([len(x) for x in labels], blocks))


def known_queries(
    content: Tensor, boxes: Tensor, blocks: int, image: Tensor, query: Tensor
) -> Queries:
    """Padded content (B, N, C) and boxes (B, N, 4) before the sigmoid as queries.

    Query ``query[r, g]`` of image ``image[r, g]``, both (R, G), is assigned to target g. All other
    queries, also padding, are supervised as background and seen by the rest of their block, as
    upstream.
    """
    target = torch.arange(image.shape[1]).expand_as(image)
    known = [x.flatten() for x in (torch.zeros_like(image), image, query, target)]
    group = QueryGroup(
        name="_dn",
        size=content.shape[1],
        blocks=blocks,
        sees=("",),
        copies=blocks,
        assign=Matches(*known).to(boxes.device),
        ranked=False,
        number_last=True,
    )
    return Queries(content, None, boxes.sigmoid(), (group,))
