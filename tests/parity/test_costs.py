"""Matching costs against what the released codes compute in float64: Stable-DINO e3a5400 and DEIMv2
0fff8d4, which changes to Rank-DETR's high-order cost in its 45th epoch.

``costs.json``: of each image's cost matrix the norm and the product with
``recipe.signed("g", "cost<image>", shape)``, the assignment, and by how much it is the best.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from detrex.modeling.matcher import HighOrderMatcher, HungarianMatcher, PositionMatcher

from . import kits, recipe
from .precision import float64

KITS = json.loads((Path(__file__).parent / "costs.json").read_text())
WEIGHTS = (2.0, 5.0, 2.0)


def after_the_change(matcher: HighOrderMatcher) -> HighOrderMatcher:
    matcher.iter = matcher.matcher_change_iter
    return matcher


# matcher, and what the released code adds to every cost: it has 1 - GIoU, times 2
MATCHERS = {
    "stable_dino_beta_off": (lambda: PositionMatcher(*WEIGHTS, cec_beta=-1.0), 2.0),
    "stable_dino_beta_0_5": (lambda: PositionMatcher(*WEIGHTS, as_released=True), 2.0),
    "deimv2_epoch_44": (lambda: HungarianMatcher(*WEIGHTS), 0.0),
    "deimv2_epoch_45": (lambda: after_the_change(HighOrderMatcher(*WEIGHTS)), 0.0),
}
# DEIMv2's IoU has nothing added to the union, ours 1e-6.
GATE = {"deimv2_epoch_44": 1e-5, "deimv2_epoch_45": 3e-4}


@pytest.mark.parametrize("name", MATCHERS)
@pytest.mark.parametrize("kit", KITS)
def test_costs_and_assignment(kit: str, name: str) -> None:
    logits, boxes, targets = kits.build(KITS[kit]["spec"])
    build, constant = MATCHERS[name]
    matcher = build()
    with float64():
        targets = [{"labels": t["labels"], "boxes": t["boxes"].double()} for t in targets]
        costs = matcher.costs(logits[None], boxes[None], targets)
        indices = matcher({"pred_logits": logits, "pred_boxes": boxes}, targets)
    for b, (cost, (norm, product)) in enumerate(zip(costs, KITS[kit]["costs"][name], strict=True)):
        cost = cost[0] + constant
        gate = GATE.get(name, 1e-8) * max(norm, 1e-3)
        direction = torch.as_tensor(recipe.signed("g", f"cost{b}", tuple(cost.shape)))
        assert cost.norm().item() == pytest.approx(norm, abs=gate)
        assert (cost * direction).sum().item() == pytest.approx(product, abs=gate)
    gaps = KITS[kit]["gap"][name] or [None] * len(costs)
    for (query, target), pairs, gap in zip(
        indices, KITS[kit]["assignments"][name], gaps, strict=True
    ):
        if gap != 0:  # else another assignment is as good
            assert sorted(zip(query.tolist(), target.tolist(), strict=True)) == sorted(
                map(tuple, pairs)
            )


def test_a_pair_is_judged_by_its_own_overlap() -> None:
    """As the paper has it: other targets of the class, and other images, do not matter."""
    logits, boxes, targets = kits.build(KITS["batch_distinct_and_repeated"]["spec"])
    matcher = PositionMatcher(*WEIGHTS)
    together = matcher.costs(logits[None].float(), boxes[None].float(), targets)
    for b, cost in enumerate(together):
        alone = slice(b, b + 1)
        image = (x[None, alone].float() for x in (logits, boxes))
        (by_itself,) = matcher.costs(*image, targets[alone])
        assert torch.equal(cost, by_itself)
    released = PositionMatcher(*WEIGHTS, as_released=True)
    assert not torch.allclose(
        together[0], released.costs(logits[None].float(), boxes[None].float(), targets)[0]
    )


def test_it_is_for_the_focal_cost() -> None:
    with pytest.raises(ValueError, match="matcher.cost_class_type.*'ce_cost'"):
        PositionMatcher(*WEIGHTS, cost_class_type="ce_cost")
