"""Rank-DETR's parts, Align-DETR's loss and Stable-DINO's parts on each other's models."""

from __future__ import annotations

import pytest
import torch

from detrex.modeling.matcher import HungarianMatcher, PositionMatcher
from projects.stabledino.modeling import StableDINOCriterion
from tests.models import image, tiny

RANK_STABLE = "projects/rank_detr/configs/rank_stabledino_r50_4scale_12ep.py"
RANK_RELATION = "projects/rank_detr/configs/rank_relation_detr_r50_12ep.py"
RANK_MR = "projects/rank_detr/configs/rank_mr_detr_align_r50_12ep.py"
RANK_RF = "projects/rank_detr/configs/rank_rf_detr_nano_coco.py"
HIGH_ORDER_MR = "projects/rank_detr/configs/high_order_mr_detr_dino_r50_12ep.py"
ALIGN_RELATION = "projects/align_detr/configs/align_relation_detr_r50_12ep.py"
STABLE_H = "projects/stabledino/configs/stable_h_deformable_detr_r50_two_stage_12ep.py"
STABLE_RANK = "projects/stabledino/configs/stable_rank_detr_r50_two_stage_12ep.py"
BATCH = [image(64, 96, 3, seed=1), image(80, 48, 0, seed=2)]
SWITCH = {"criterion__matcher__matcher_change_iter": 2, "criterion__matcher__max_iter": 3}


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (RANK_STABLE, SWITCH),
        (RANK_RELATION, SWITCH),
        (RANK_MR, SWITCH),
        (RANK_RF, {**SWITCH, "group_nums": 2}),
        (HIGH_ORDER_MR, SWITCH),
        (ALIGN_RELATION, {"criterion__match_num": [2, 2, 1]}),
        (STABLE_H, {}),
        (STABLE_RANK, SWITCH),
    ],
)
def test_three_steps_train_every_parameter(config: str, options: dict) -> None:
    """The third one has the high-order cost, where there is one."""
    model = tiny(config, **options).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    for iteration in range(3):
        model.criterion.matcher.iter = iteration
        losses = model(BATCH)
        assert all(loss.isfinite() for loss in losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    same = [name for name, p in model.named_parameters() if torch.equal(p, before.get(name, p))]
    assert not set(same) & set(before)


@torch.no_grad()
def test_the_routes_of_mr_detr_are_not_ranked() -> None:
    model = tiny(RANK_MR).train()
    memory = model.encode(model.preprocess(BATCH))
    queries = model.make_queries(memory, model.targets(BATCH))
    passes = [queries, *queries.routes]
    before = [model.decode(q, memory).logits for q in passes]
    for table in model.rank_adaptive_classhead_emb:
        table.weight += 1.0
    for q, logits in zip(passes, before, strict=True):
        shift = torch.zeros_like(logits)
        shift[:, :, :10] = 0.0 if q.route else 1.0
        torch.testing.assert_close(model.decode(q, memory).logits - logits, shift)
        scores = torch.arange(logits.shape[2]).expand(2, -1)[..., None].expand_as(logits[0]).float()
        boxes = model.transformer.decoder.after_layer(0, q, scores).boxes
        order = q.boxes[:, :10] if q.route else q.boxes[:, :10].flip(1)
        assert torch.equal(boxes[:, :10], order)


def costs(matcher: HungarianMatcher) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    logits, boxes = (torch.rand(1, 1, 6, n, generator=generator) * 0.4 + 0.2 for n in (5, 4))
    target = {"labels": torch.tensor([1, 1]), "boxes": boxes[0, 0, :2] * 1.1}
    return matcher.costs(logits, boxes, [target])[0]


@pytest.mark.parametrize("released", [False, True])
def test_stable_dinos_cost_until_the_high_order_cost_begins(released: bool) -> None:
    both = tiny(STABLE_RANK, criterion__matcher__as_released=released, **SWITCH).criterion.matcher
    position = PositionMatcher(2.0, 5.0, 2.0, as_released=released)
    high_order = tiny("projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py", **SWITCH)
    high_order = high_order.criterion.matcher
    for matcher in (both, high_order):
        matcher.iter = 1
    assert torch.equal(costs(both), costs(position))
    assert not torch.equal(costs(both), costs(high_order))
    for matcher in (both, high_order):
        matcher.iter = 2
    assert torch.equal(costs(both), costs(high_order))


def test_hybrid_proposals_keep_their_number_of_queries_per_target() -> None:
    model = tiny(ALIGN_RELATION, criterion__match_num=[3, 3, 1], num_queries=20).train()
    numbers = {}
    match_pairs = model.criterion.match_pairs

    def counted(sets, matches, targets):
        numbers.update((s.group.name, len(m.query)) for s, m in zip(sets, matches, strict=True))
        return match_pairs(sets, matches, targets)

    model.criterion.match_pairs = counted
    model(BATCH)
    # Three targets in two layers; primary queries: three of each, but one in the last layer.
    assert numbers == {"": 12, "_enc": 9, "_hybrid": 12, "_enc_hybrid": 6, "_dn": numbers["_dn"]}


def test_which_sets_are_aware_of_the_boxes() -> None:
    relation, stable = (tiny(config).criterion for config in (RANK_RELATION, RANK_STABLE))
    assert set(relation.set_losses) == set(stable.set_losses) == {"_enc", "_dn"}
    assert isinstance(tiny(STABLE_H).criterion, StableDINOCriterion)
    assert not tiny(STABLE_H).criterion.set_losses


def test_isolated_groups_share_the_biases_of_ranks() -> None:
    model = tiny(RANK_RF, group_nums=2).train()
    assert model.rank_adaptive_classhead_emb[0].weight.shape == (10, 5)
    with torch.no_grad():
        memory = model.encode(model.preprocess(BATCH[:1]))
        queries = model.make_queries(memory, None)
        before = model.decode(queries, memory).logits
        model.rank_adaptive_classhead_emb[1].weight[3] += 1.0
        change = model.decode(queries, memory).logits - before
    expected = torch.zeros_like(change)
    expected[1, :, [3, 13]] = 1.0  # the fourth of each group
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-5)
