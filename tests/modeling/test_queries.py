from __future__ import annotations

import torch

from detrex.modeling.queries import Queries, QueryGroup, isolation_mask, rank_order

CPU = torch.device("cpu")


def plain_mask(groups: list[QueryGroup]) -> torch.Tensor:
    """Who must not attend to whom, query by query."""
    members = [
        (group, i // (group.size // group.blocks)) for group in groups for i in range(group.size)
    ]
    mask = torch.ones(len(members), len(members), dtype=torch.bool)
    for i, (a, block_a) in enumerate(members):
        for j, (b, block_b) in enumerate(members):
            same = a.name == b.name and block_a == block_b
            mask[i, j] = not (same or b.name in a.sees)
    return mask


def test_mask_equals_the_rule() -> None:
    groups = [
        QueryGroup(size=3),
        QueryGroup("_one2many", size=2),
        QueryGroup("_dn", size=6, blocks=3, sees=("",)),
    ]
    assert torch.equal(isolation_mask(groups, CPU), plain_mask(groups))


def test_one_group_needs_no_mask() -> None:
    assert isolation_mask([QueryGroup(size=3)], CPU) is None


def test_ranked_groups_are_sorted_apart_and_others_left_alone() -> None:
    groups = [QueryGroup(size=3), QueryGroup("_a", size=2), QueryGroup("_b", size=2, ranked=False)]
    best = torch.tensor(
        [[0.1, 2.0, -1.0, 5.0, 6.0, 1.0, 2.0], [3.0, 2.0, 1.0, 1.0, 0.0, 9.0, 10.0]]
    )
    logits = torch.stack([best - 20, best], -1)  # the second class decides
    order = rank_order(logits, groups)
    assert order.tolist() == [[1, 0, 2, 4, 3, 5, 6], [0, 1, 2, 3, 4, 5, 6]]


def test_scores_that_round_to_one_are_still_ranked() -> None:
    logits = torch.tensor([20.0, 25.0, 30.0])[None, :, None]
    assert rank_order(logits, [QueryGroup(size=3)]).tolist() == [[2, 1, 0]]


def test_blocks_of_a_ranked_group_are_sorted_apart() -> None:
    groups = [QueryGroup("_first", size=1), QueryGroup(size=6, blocks=3)]
    best = torch.tensor([[9.0, 1.0, 2.0, 4.0, 3.0, 5.0, 6.0]])
    assert rank_order(best[..., None], groups).tolist() == [[0, 2, 1, 3, 4, 6, 5]]


def test_reordering_takes_along_all_that_a_query_carries() -> None:
    content = torch.arange(6.0).view(1, 3, 2)
    queries = Queries(content, content + 10, content + 20, (QueryGroup(size=3),), traced=None)
    moved = queries.reorder(torch.tensor([[2, 0, 1]]))
    for name, first in (("content", 0.0), ("position", 10.0), ("boxes", 20.0)):
        expected = torch.tensor([[[4.0, 5.0], [0.0, 1.0], [2.0, 3.0]]]) + first
        assert torch.equal(getattr(moved, name), expected)
    assert moved.traced is None
