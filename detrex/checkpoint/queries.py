"""Weights of queries of a checkpoint, for a model that has more or fewer of them.

Legend: N queries, C channels, K classes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from detrex.modeling.queries import QueryGroup

logger = logging.getLogger(__name__)
# A query is a row of learned contents, positions and anchors; a rank one of Rank-DETR's tables.
LEARNED = re.compile(
    r"(^|\.)(query_embed|query_embedding|tgt_embed|refpoint_embed|anchor_box_embed)\.weight$"
)
RANKS = re.compile(r"(^|\.)(rank_aware_content_query|rank_adaptive_classhead_emb)\.\d+\.weight$")


def carry_queries(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with one row per query of the model.

    The queries that both have are the checkpoint's. Further ones start with the model's initial
    values; further ranks are like the checkpoint's last one. Of several query groups (H-DETR's
    one-to-many branch) the first one may differ in size; of one group of equal blocks (Group-DETR)
    each block.

    Args:
        model: a detector.
        weights: under the model's names; other names, and tensors of other shapes, are unchanged.
    """
    groups, expected = getattr(model, "groups", ()), model.state_dict()
    carried, counts = dict(weights), set()
    for name, target in expected.items():
        source, is_rank = weights.get(name), bool(RANKS.search(name))
        if source is None or not (is_rank or LEARNED.search(name)):
            continue
        fits = is_rank or source.shape[1:] == target.shape[1:]
        pieces = _pieces(groups, len(target), len(source))
        if len(source) != len(target) and fits and pieces:
            carried[name] = _moved(source, target, pieces, is_rank)
            counts.add((len(source), len(target)))
    for old, new in counts:
        logger.warning(
            "the checkpoint has weights of %d queries, the model of %d: %d are carried over, the "
            "model needs training",
            *(old, new, min(old, new)),
        )
    return carried


def _pieces(groups: Sequence[QueryGroup], new: int, old: int) -> list[tuple[int, int]]:
    """Sizes in the model and in the checkpoint of the pieces that both have; empty if unknown."""
    first, *others = groups or (QueryGroup(size=new),)
    if not others:
        count = first.blocks
        return [] if old % count or new % count else [(new // count, old // count)] * count
    rest = sum(group.size for group in others)
    matches = new == first.size + rest and first.blocks == 1 and old > rest
    return [(first.size, old - rest), (rest, rest)] if matches else []


def _moved(
    source: Tensor, target: Tensor, pieces: Sequence[tuple[int, int]], is_rank: bool
) -> Tensor:
    """Return the checkpoint's rows (N, ...) at their places among the model's."""
    shape = len(target), *source.shape[1:]
    moved = source.new_zeros(shape) if is_rank else target.clone()
    start = row = 0
    for new, old in pieces:
        both = min(new, old)
        moved[start : start + both] = source[row : row + both]
        if is_rank:
            moved[start + both : start + new] = source[row + old - 1]
        start, row = start + new, row + old
    return moved
