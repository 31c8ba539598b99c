"""Relation-DETR's bias in the self-attention of any deformable decoder."""

from __future__ import annotations

import math

import pytest
import torch

from detrex.modeling.queries import Queries, QueryGroup, attention_rows, isolation_mask
from detrex.modeling.transformer.relation import PositionRelation, related_rows
from tests import models

DECODERS = {
    "deformable": "projects/deformable_detr/configs/deformable_detr_r50_two_stage_50ep.py",
    "h_deformable": "projects/h_deformable_detr/configs/h_deformable_detr_r50_two_stage_12ep.py",
    "dab": "projects/dab_deformable_detr/configs/dab_deformable_detr_r50_50ep.py",
    "dn": "projects/dn_deformable_detr/configs/dn_deformable_detr_r50_12ep.py",
    "dino": "projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py",
    "rank": models.RANK_DETR,
    "mr": "projects/mr_detr_dino/configs/deformable_detr_r50_two_stage_12ep_plusplus.py",
}


def plain_bias(relation: PositionRelation, a: list[float], b: list[float]) -> list[float]:
    """Of one pair of boxes, by the formulas of the paper."""
    eps = 1e-5
    pair = [math.log(abs(a[i] - b[i]) / (a[i + 2] + eps) + 1) for i in (0, 1)]
    pair += [math.log((a[i] + eps) / (b[i] + eps)) for i in (2, 3)]
    angles = [100 * x / 10000 ** (2 * k / 16) for x in pair for k in range(8)]
    features = [f(angle) for angle in angles for f in (math.sin, math.cos)]
    weight, bias = relation.pos_proj[0].weight.squeeze(-1).squeeze(-1), relation.pos_proj[0].bias
    return [
        max(sum(w * x for w, x in zip(row.tolist(), features, strict=True)) + c.item(), 0.0)
        for row, c in zip(weight, bias, strict=True)
    ]


def test_bias_equals_the_formula() -> None:
    torch.manual_seed(0)
    relation = PositionRelation(3).double()
    source, target = (torch.rand(2, n, 4, dtype=torch.float64) * 0.5 + 0.1 for n in (4, 5))
    bias = relation(source, target)
    assert bias.shape == (2, 3, 4, 5)
    for b, i, j in ((0, 0, 0), (0, 3, 4), (1, 2, 1)):
        expected = plain_bias(relation, source[b, i].tolist(), target[b, j].tolist())
        # the frequencies are float32 numbers, and angles reach hundreds
        assert bias[b, :, i, j].tolist() == pytest.approx(expected, abs=1e-4)


def test_rows_give_what_the_whole_matrix_gives() -> None:
    torch.manual_seed(0)
    relation = PositionRelation(2)
    groups = (
        QueryGroup(size=3),
        QueryGroup("_k", 4, blocks=2, copies=2),
        QueryGroup("_dn", 2, sees=("",)),
    )
    boxes = [torch.rand(1, 9, 4) * 0.4 + 0.1 for _ in range(2)]
    queries = Queries(torch.rand(1, 9, 4), None, boxes[1], groups, trail=tuple(boxes))
    device = torch.device("cpu")
    whole = relation(*boxes, isolation_mask(groups, device))[0]
    primary, blocks, denoising = related_rows(attention_rows(groups, device), queries, relation)
    torch.testing.assert_close(primary.mask[0], whole[:, :3, :3])
    torch.testing.assert_close(blocks.mask[0], whole[:, 3:5, 3:5])
    torch.testing.assert_close(blocks.mask[1], whole[:, 5:7, 5:7])
    torch.testing.assert_close(denoising.mask[0], whole[:, 7:])


def test_groups_without_a_bias_keep_their_mask() -> None:
    copies = QueryGroup("_k", 4, copies=2, sees=("",))
    groups = (QueryGroup(size=3), copies, QueryGroup("_sep", 2, one_to_many=True))
    boxes = (torch.rand(1, 9, 4), torch.rand(1, 9, 4))
    queries = Queries(torch.rand(1, 9, 4), None, boxes[1], groups, trail=boxes)
    rows = attention_rows(groups, torch.device("cpu"))
    one, *several = related_rows(rows, queries, PositionRelation(2))
    assert one.mask.is_floating_point()
    assert several[0].mask is not None and several[0] is rows[1] and several[1] is rows[2]


@pytest.mark.parametrize("name", DECODERS)
def test_every_deformable_decoder_takes_it(name: str) -> None:
    batch = [models.image(64, 80, 2), models.image(48, 64, 1, seed=1)]
    models_ = {}
    for relation in (False, True):
        torch.manual_seed(0)
        model = models.tiny(DECODERS[name], transformer__decoder__box_relation=relation)
        models_[relation] = model
    plain, related = models_[False], models_[True]
    added = set(related.state_dict()) - set(plain.state_dict())
    prefix = "transformer.decoder.position_relation_embedding.pos_proj.0"
    assert added == {f"{prefix}.weight", f"{prefix}.bias"}
    related.load_state_dict(plain.state_dict(), strict=False)
    layer = related.transformer.decoder.position_relation_embedding.pos_proj[0]
    losses = {}
    for scale in (0.0, 1.0):
        with torch.no_grad():
            layer.weight.mul_(scale) if scale == 0 else torch.nn.init.normal_(layer.weight)
            layer.bias.fill_(scale)
        torch.manual_seed(1)
        losses[scale] = related(batch)
    torch.manual_seed(1)
    expected = plain(batch)
    for key, value in expected.items():  # a bias of zero changes nothing
        torch.testing.assert_close(losses[0.0][key], value, rtol=1e-5, atol=1e-6)
    first = [key for key in expected if key.endswith("_0")]
    assert any(not torch.allclose(losses[1.0][key], expected[key]) for key in expected)
    assert all(torch.equal(losses[1.0][key], losses[0.0][key]) for key in first)
    sum(losses[1.0].values()).backward()
    assert layer.weight.grad.abs().sum() > 0 and layer.weight.grad.isfinite().all()
