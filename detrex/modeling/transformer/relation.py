"""Box relations as a bias of self-attention (Relation-DETR, Hou et al., ECCV 2024, section 3.2).

Legend: B images, N queries, M keys, H heads; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from detrex.layers.attention import Rows
from detrex.layers.position_embedding import sine_features
from detrex.modeling.queries import Queries

EPS = 1e-5
FEATURES, TEMPERATURE, SCALE = 16, 10000, 100.0  # of each of the four relations, as published


class PositionRelation(nn.Module):
    """bias(i, j) = ReLU(linear(sine(relation(i, j)))) in each head; boxes get no gradient."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        # A convolution by name and shape: the released weights are one.
        self.pos_proj = nn.Sequential(nn.Conv2d(4 * FEATURES, num_heads, 1), nn.ReLU())

    def forward(self, source: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, H, N, M) of boxes (B, N, 4) and (B, M, 4); ``mask`` (N, M), True = must not attend,
        is minus infinity there.

        Only the bias is stored; the sines, 64 numbers a pair, are computed again in backward.
        """
        if not torch.is_grad_enabled():
            return self.bias(source, target, mask)
        return checkpoint(self.bias, source, target, mask, use_reentrant=False)

    def bias(self, source: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        relations = box_relations(source.detach(), target.detach()) * SCALE
        features = sine_features(relations, FEATURES, TEMPERATURE).flatten(-2)  # (B, N, M, 64)
        bias = self.pos_proj(features.permute(0, 3, 1, 2))
        return bias if mask is None else bias.masked_fill(mask, -torch.inf)


def box_relations(source: Tensor, target: Tensor) -> Tensor:
    """(B, N, M, 4) of boxes (B, N, 4) and (B, M, 4): log(|dx| / w + 1), log(|dy| / h + 1) with the
    size of the source, log(w / w'), log(h / h') (eq. 5)."""
    source, target = source[:, :, None], target[:, None]
    distance = (source[..., :2] - target[..., :2]).abs() / (source[..., 2:] + EPS)
    size = (source[..., 2:] + EPS) / (target[..., 2:] + EPS)
    return torch.cat([distance.log1p(), size.log()], -1)


def related_rows(
    rows: tuple[Rows, ...], queries: Queries, relation: PositionRelation
) -> Iterator[Rows]:
    """The rows of self-attention with a bias for every pair: the relation of the boxes of the layer
    before the last to those of the last (``queries.trail``).

    Groups with several queries for a target have no bias: the relation serves to drop duplicates.
    """
    first = 0
    groups = [group for group in queries.groups if group.size]
    for row, group in zip(rows, groups, strict=True):
        source, target = (x[:, first : first + row.size] for x in queries.trail)
        first += row.size
        several = group.one_to_many or group.copies > group.blocks
        if group.assign is None and several:
            yield row
        elif row.mask is not None:
            yield row._replace(mask=relation(source, queries.trail[1], row.mask))
        else:
            blocks = (x.unflatten(1, (row.blocks, -1)).flatten(0, 1) for x in (source, target))
            yield row._replace(mask=relation(*blocks))
