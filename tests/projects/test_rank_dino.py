"""Rank-DETR on DINO: matching queries are ranked, denoising queries are left alone."""

from __future__ import annotations

import pytest
import torch

from detrex.layers import box_cxcywh_to_xyxy, generalized_box_iou
from detrex.modeling.criterion import Predictions
from detrex.modeling.matcher import HungarianMatcher
from detrex.modeling.queries import Queries, QueryGroup
from projects.rank_detr.modeling import RankDetrCriterion
from tests.models import image, tiny

CONFIG = "projects/rank_detr/configs/rank_dino_r50_4scale_12ep.py"
BATCH = [image(64, 96, 3, seed=1), image(80, 48, 2, seed=2)]


def denoising_group(size: int) -> QueryGroup:
    return QueryGroup("_dn", size=size, blocks=size // 2, sees=("",), ranked=False)


def test_ranked_queries_move_and_others_keep_their_place() -> None:
    decoder = tiny(CONFIG).transformer.decoder
    content, boxes = torch.randn(1, 5, 256), torch.rand(1, 5, 4)
    groups = (QueryGroup(size=3), denoising_group(2))
    scores = torch.tensor([0.0, 2.0, 1.0, -1.0, 4.0])[None, :, None].expand(-1, -1, 5)
    result = decoder.after_layer(0, Queries(content, None, boxes, groups), scores)
    order = [1, 2, 0, 3, 4]
    table = decoder.rank_aware_content_query[0].weight
    rank = torch.cat([table[:3], torch.zeros(2, 256)])
    both = torch.cat([content[0, order], decoder.pre_racq_trans[0](rank)], 1)
    torch.testing.assert_close(result.content[0], decoder.post_racq_trans[0](both))
    assert torch.equal(result.boxes[0], boxes[0, order])
    assert result.position is None  # made anew from the sorted boxes


def test_the_class_bias_leaves_denoising_queries_alone() -> None:
    model = tiny(CONFIG).train()
    with torch.no_grad():
        memory = model.encode(model.preprocess(BATCH))
        queries = model.make_queries(memory, model.targets(BATCH))
        plain = model.decode(queries, memory).logits
        for table in model.rank_adaptive_classhead_emb:
            table.weight += 1.0
        biased = model.decode(queries, memory).logits
    shift = torch.zeros_like(plain)
    shift[:, :, :10] = 1.0
    torch.testing.assert_close(biased - plain, shift, atol=1e-5, rtol=0)


def test_denoising_queries_do_not_move_the_ranked_ones() -> None:
    model = tiny(CONFIG).train()
    with torch.no_grad():
        memory = model.encode(model.preprocess(BATCH))
        queries = model.make_queries(memory, model.targets(BATCH))
        before = model.decode(queries, memory)
        queries.content[:, 10:] += 1.0
        after = model.decode(queries, memory)
    for x, y in zip(before[:2], after[:2], strict=True):
        assert torch.equal(x[:, :, :10], y[:, :, :10])


@pytest.mark.parametrize("aware", [False, True])
def test_the_loss_of_denoising_queries_is_a_switch(aware: bool) -> None:
    model = tiny(CONFIG, criterion__GIoU_aware_denoising=aware).train()
    batch = model.targets(BATCH[:1])
    group = model.extend(Queries(*[torch.zeros(1, 1, 256)] * 2, torch.zeros(1, 1, 4), ()), batch)
    group = group.groups[0]
    logits = torch.randn(1, 1, group.size, 5)
    boxes = torch.rand(1, 1, group.size, 4) * 0.4 + 0.3
    loss = model.criterion.losses_of_sets([Predictions(logits, boxes, group)], batch)[
        "loss_class_dn"
    ]
    p = logits[0, 0].sigmoid()
    expected = (0.75 * p**2 * -(1 - p).log()).sum()
    assign = group.assign
    for query, target in zip(assign.query.tolist(), assign.target.tolist(), strict=True):
        label, gt = batch[0]["labels"][target], batch[0]["boxes"][target]
        s = p[query, label]
        pair = [box_cxcywh_to_xyxy(b)[None] for b in (boxes[0, 0, query], gt)]
        t = (generalized_box_iou(*pair)[0, 0] + 1) / 2 if aware else torch.tensor(1.0)
        expected = expected - 0.75 * s**2 * -(1 - s).log()
        bce = -t * s.log() - (1 - t) * (1 - s).log()
        expected = expected + 0.25 * (t - s).abs() ** 2 * bce
    torch.testing.assert_close(loss, expected / (3 * group.copies))


def test_the_giou_aware_loss_replaces_a_softmax_too() -> None:
    options = dict(num_classes=3, matcher=HungarianMatcher(), weight_dict={})
    logits, boxes = torch.randn(1, 1, 4, 3), torch.rand(1, 1, 4, 4)
    set_ = Predictions(logits, boxes, QueryGroup(size=4))
    targets = [{"labels": torch.tensor([1]), "boxes": torch.rand(1, 4)}]
    losses = [
        RankDetrCriterion(**options, loss_class_type=kind).losses_of_sets([set_], targets)[
            "loss_class"
        ]
        for kind in ("ce_loss", "focal_loss")
    ]
    assert losses[0] == losses[1]
