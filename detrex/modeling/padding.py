"""Images and features of different sizes as one tensor, and the mask of what was added.

Legend: B images, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pad_and_stack(tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Tensors (C, H, W) of any sizes as (B, C, H, W) and a mask (B, H, W), True = padding."""
    height, width = (max(t.shape[side] for t in tensors) for side in (1, 2))
    batch = tensors[0].new_zeros(len(tensors), len(tensors[0]), height, width)
    for i, tensor in enumerate(tensors):
        batch[i, :, : tensor.shape[1], : tensor.shape[2]] = tensor
    return batch, padding(batch, [tuple(t.shape[1:]) for t in tensors])


def padding(batch: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """The mask (B, H, W), True = padding, of images (B, C, H, W) of these sizes (height, width)."""
    mask = torch.ones(len(batch), *batch.shape[2:], dtype=torch.bool, device=batch.device)
    for i, (height, width) in enumerate(sizes):
        mask[i, :height, :width] = False
    return mask
