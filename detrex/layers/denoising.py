"""Noisy copies of targets as queries (DN-DETR, Li et al., CVPR 2022, section 4.1).

Legend: B images, N denoising and Q matching queries, G targets of all images, R copies of each
target, C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detrex.utils import inverse_sigmoid
from detrex.utils.device import send
from detrex.utils.errors import AssertedError


def apply_label_noise(
    labels: Tensor, label_noise_prob: float = 0.2, num_classes: int = 80
) -> Tensor:
    """Labels (G,), each drawn anew from ``range(num_classes)`` with that probability."""
    if label_noise_prob <= 0:
        return labels
    chosen = torch.rand_like(labels, dtype=torch.float32) < label_noise_prob
    if labels.device.type == "cpu":  # as many draws as upstream's, for equal random numbers
        return labels.masked_scatter(chosen, torch.randint_like(labels[chosen], num_classes))
    # Not so on a GPU: the host would wait for the number of chosen labels.
    return torch.where(chosen, torch.randint_like(labels, num_classes), labels)


def apply_box_noise(boxes: Tensor, box_noise_scale: float = 0.4) -> Tensor:
    """Boxes (..., 4) whose centres move by up to ``box_noise_scale`` of the half size and whose
    sizes change by up to that share of themselves."""
    if box_noise_scale <= 0:
        return boxes
    size = boxes[..., 2:]
    shift = (torch.rand_like(boxes) * 2 - 1) * torch.cat([size / 2, size], -1) * box_noise_scale
    return (boxes + shift).clamp(0, 1)


def copy_places(counts: Sequence[int], copies: int) -> tuple[Tensor, Tensor]:
    """Image and query index of every copy, both (R, G). An image has ``copies`` blocks of queries,
    each as long as the highest of ``counts``, the images' numbers of targets."""
    image = torch.repeat_interleave(torch.tensor(counts))  # (G,)
    slot = torch.cat([torch.arange(count) for count in counts])
    query = torch.arange(copies)[:, None] * max(counts) + slot
    return image.expand_as(query), query


def pad_copies(
    content: Tensor, boxes: Tensor, counts: Sequence[int], copies: int, eps: float = 1e-3
) -> tuple[Tensor, Tensor]:
    """Content (B, N, C) and boxes before the sigmoid (B, N, 4), padded as in :func:`copy_places`,
    from content (R * G, C) and boxes (R * G, 4) of all copies.

    Padding has zero content and the box (0.5, 0.5, 0.5, 0.5). Coordinates are at least ``eps`` away
    from 0 and 1.
    """
    place = torch.stack(copy_places(counts, copies)).flatten(1)
    place = send(place, boxes.device).unbind()
    shape = (len(counts), copies * max(counts))
    padded = content.new_zeros(*shape, content.shape[-1]).index_put(place, content)
    return padded, boxes.new_zeros(*shape, 4).index_put(place, inverse_sigmoid(boxes, eps))


class GenerateDNQueries(nn.Module):
    """The label embedding of DN-DETR and the denoising queries made with it.

    ``with_indicator``: the last channel is 1 in denoising queries and 0 in matching queries
    (:meth:`unmarked`); labels are embedded in the others. The embedding has ``num_classes`` rows,
    and label noise draws from all of them, in DN-DETR also from the last one, the unknown label.
    ``num_queries``: number of matching queries in the mask.
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
        self.num_queries = num_queries
        self.num_classes = num_classes
        self.label_embed_dim = label_embed_dim
        self.denoising_groups = denoising_groups
        self.label_noise_prob = label_noise_prob
        self.box_noise_scale = box_noise_scale
        self.with_indicator = with_indicator
        self.label_encoder = nn.Embedding(num_classes, label_embed_dim - with_indicator)

    def forward(
        self, gt_labels_list: Sequence[Tensor], gt_boxes_list: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, int, int]:
        """Denoising queries of a batch from each image's labels (G,) and boxes (G, 4).

        Returns content (B, N, C), boxes before the sigmoid (B, N, 4), the mask (N + Q, N + Q) for
        self-attention with denoising queries first (True = must not attend), ``denoising_groups``
        and the number of targets of the fullest image.

        Raises:
            AssertedError: for lists of different lengths.
        """
        if len(gt_labels_list) != len(gt_boxes_list):
            counts = f"{len(gt_labels_list)} images, boxes of {len(gt_boxes_list)}"
            raise AssertedError(f"denoising: there are labels of {counts}")
        content, boxes = self.noised(gt_labels_list, gt_boxes_list)
        width = content.shape[1] // self.denoising_groups
        mask = self.generate_query_masks(width, content.device)
        return content, boxes, mask, self.denoising_groups, width

    def generate_query_masks(self, max_gt_num_per_image: int, device: torch.device | str) -> Tensor:
        """The mask of :meth:`forward` for that many targets of the fullest image."""
        groups = self.denoising_groups
        owner = torch.arange(groups, device=device).repeat_interleave(max_gt_num_per_image)
        owner = F.pad(owner, (0, self.num_queries), value=groups)  # matching queries come last
        return (owner[:, None] != owner) & (owner < groups)

    def noised(
        self, gt_labels_list: Sequence[Tensor], gt_boxes_list: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The content and the boxes of :meth:`forward`."""
        groups, counts = self.denoising_groups, [len(labels) for labels in gt_labels_list]
        labels, boxes = torch.cat(gt_labels_list), torch.cat(gt_boxes_list)
        labels = labels.repeat(groups)
        labels = apply_label_noise(labels, self.label_noise_prob, self.num_classes)
        boxes = apply_box_noise(boxes.repeat(groups, 1), self.box_noise_scale)
        content = F.pad(self.label_encoder(labels), (0, int(self.with_indicator)), value=1.0)
        return pad_copies(content, boxes, counts, groups)

    def unmarked(self, content: Tensor) -> Tensor:
        """Contents of matching queries, to which the indicator (if any) adds a channel of 0."""
        return F.pad(content, (0, int(self.with_indicator)))
