"""Denoising queries: noisy copies of the targets, asked to give the targets back.

DN-DETR (Li et al., CVPR 2022) and its contrastive form in DINO (Zhang et al., ICLR 2023). Both
take the label embedding as an argument, because it belongs to the model.

Legend: B images, N denoising queries, G targets of all images, R noisy copies of each target,
C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detrex.layers import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh
from detrex.modeling.matcher import Matches
from detrex.modeling.matcher.matcher import Targets
from detrex.modeling.queries import Queries, QueryGroup
from detrex.utils import inverse_sigmoid


def contrastive_denoising(
    targets: Targets,
    embedding: nn.Embedding,
    number: int = 100,
    label_noise: float = 0.5,
    box_noise: float = 1.0,
) -> Queries:
    """DINO's set: per block a positive and a negative copy of every target (section 3.3).

    The corners of a positive move by up to ``box_noise`` of the half size, those of a negative by
    one to two times that. Half of ``label_noise`` of all labels are drawn anew. There are
    ``number`` // (targets of the fullest image) blocks.
    """
    labels, boxes = _concatenate(targets)
    fullest = max(len(t["labels"]) for t in targets)
    blocks = max(1, number // max(fullest, 1))
    labels = _flip(labels.repeat(2 * blocks), embedding.num_embeddings, label_noise * 0.5)
    boxes = boxes.repeat(2 * blocks, 1)
    sign = torch.randint_like(boxes, 0, 2) * 2 - 1
    reach = torch.rand_like(boxes).view(blocks, 2, -1, 4)
    reach = torch.cat([reach[:, :1], reach[:, 1:] + 1], 1).view_as(boxes)
    shift = sign * reach * boxes[:, 2:].repeat(1, 2) / 2 * box_noise
    boxes = box_xyxy_to_cxcywh((box_cxcywh_to_xyxy(boxes) + shift).clamp(0, 1))
    return _queries(targets, embedding(labels), boxes, blocks, positives=slice(None, None, 2))


def plain_denoising(
    targets: Targets,
    embedding: nn.Embedding,
    groups: int = 5,
    label_noise: float = 0.2,
    box_noise: float = 0.4,
    indicator: bool = False,
) -> Queries:
    """DN-DETR's set: ``groups`` copies of every target (section 4.1 of the paper).

    The centre moves by up to ``box_noise`` of the half size, the size changes by up to
    ``box_noise`` of itself; ``label_noise`` of all labels are drawn anew among all rows of the
    embedding (as upstream: also the one of the unknown label). ``indicator`` adds a channel of 1.
    """
    labels, boxes = _concatenate(targets)
    labels = _flip(labels.repeat(groups), embedding.num_embeddings, label_noise)
    boxes = boxes.repeat(groups, 1)
    size = boxes[:, 2:]
    shift = (torch.rand_like(boxes) * 2 - 1) * torch.cat([size / 2, size], -1) * box_noise
    content = F.pad(embedding(labels), (0, int(indicator)), value=1.0)
    return _queries(targets, content, (boxes + shift).clamp(0, 1), groups)


class GenerateDNQueries(nn.Module):
    """The label embedding of DN-DETR with its denoising set.

    ``with_indicator`` marks denoising queries by a last channel of 1, so that labels are embedded
    in one channel less; matching queries carry 0 there (:meth:`unmarked`). One row of the
    embedding is the unknown label. ``num_queries`` has no effect: query groups make the mask.
    """

    def __init__(
        self,
        num_queries: int = 300,
        num_classes: int = 80,
        label_embed_dim: int = 256,
        denoising_groups: int = 5,
        label_noise_prob: float = 0.2,
        box_noise_scale: float = 0.4,
        with_indicator: bool = False,
    ) -> None:
        super().__init__()
        self.denoising_groups = denoising_groups
        self.label_noise_prob = label_noise_prob
        self.box_noise_scale = box_noise_scale
        self.with_indicator = with_indicator
        self.label_encoder = nn.Embedding(num_classes + 1, label_embed_dim - with_indicator)

    def forward(self, targets: Targets) -> Queries:
        """The denoising queries of a batch; targets: per image labels (G,) and boxes (G, 4)."""
        return plain_denoising(
            targets,
            self.label_encoder,
            self.denoising_groups,
            self.label_noise_prob,
            self.box_noise_scale,
            self.with_indicator,
        )

    def unmarked(self, content: Tensor) -> Tensor:
        """Contents of matching queries, to which the indicator (if any) adds a channel of 0."""
        return F.pad(content, (0, int(self.with_indicator)))


def _concatenate(targets: Targets) -> tuple[Tensor, Tensor]:
    return torch.cat([t["labels"] for t in targets]), torch.cat([t["boxes"] for t in targets])


def _flip(labels: Tensor, num_classes: int, probability: float) -> Tensor:
    chosen = torch.rand_like(labels, dtype=torch.float32) < probability
    return labels.masked_scatter(chosen, torch.randint_like(labels[chosen], num_classes))


def _queries(
    targets: Targets, content: Tensor, boxes: Tensor, blocks: int, positives: slice = slice(None)
) -> Queries:
    """Pads every image to the fullest one: content (R * G, C) and boxes (R * G, 4) to (B, N, ...).

    Padding has zero content and the box (0.5, 0.5, 0.5, 0.5). It is seen by the rest of its block
    and supervised as background, as upstream. ``positives`` says which copies answer for targets.
    """
    counts = torch.tensor([len(t["labels"]) for t in targets])
    width, copies = int(counts.max()), len(boxes) // max(int(counts.sum()), 1)
    image = torch.repeat_interleave(counts)  # (G,)
    slot = torch.cat([torch.arange(count) for count in counts])
    query = torch.arange(copies)[:, None] * width + slot  # (R, G)
    shape = (len(targets), copies * width)
    place = tuple(x.to(boxes.device) for x in (image.repeat(copies), query.flatten()))
    padded = content.new_zeros(*shape, content.shape[-1]).index_put(place, content)
    logits = boxes.new_zeros(*shape, 4).index_put(place, inverse_sigmoid(boxes))
    query = query[positives]
    known = (image.repeat(len(query)), query.flatten(), torch.arange(len(slot)).repeat(len(query)))
    group = QueryGroup(
        name="_dn",
        size=shape[1],
        blocks=blocks,
        sees=("",),
        copies=blocks,
        assign=Matches(torch.zeros_like(known[0]), *known).to(boxes.device),
        ranked=False,
        number_last=True,
    )
    return Queries(padded, None, logits.sigmoid(), (group,))
