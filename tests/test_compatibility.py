"""Every method trains with every class loss, and with every matching cost."""

from __future__ import annotations

import copy
from functools import partial
from itertools import product

import pytest
import torch

from detrex.modeling.criterion import SetCriterion
from detrex.modeling.losses import CLASS_LOSS_NAMES
from detrex.modeling.matcher import HighOrderMatcher, HungarianMatcher, PositionMatcher
from tests.models import image, tiny

METHODS = {
    "deformable": "projects/deformable_detr/configs/deformable_detr_r50_two_stage_50ep.py",
    "h_deformable": "projects/h_deformable_detr/configs/h_deformable_detr_r50_two_stage_12ep.py",
    # DINO with a dense branch
    "ddq": "projects/ddq_detr/configs/models/ddq_detr_r50.py",
    "relation": "projects/relation_detr/configs/models/relation_detr_r50.py",
    "dab": "projects/dab_detr/configs/dab_detr_r50_50ep.py",
}
COSTS = {
    "standard": HungarianMatcher,
    "high_order": partial(HighOrderMatcher, matcher_change_iter=0),
    "position": PositionMatcher,
}
WEIGHTS = {"loss_class": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}
BATCH = [image(48, 64, 2, seed=3), image(64, 48, 0, seed=4)]


@pytest.fixture(scope="module", params=METHODS.values(), ids=METHODS.keys())
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    return tiny(request.param)


# A loss sees the matches, not the costs: the other costs go with a sum and with a mean.
PAIRS = [(kind, "standard") for kind in CLASS_LOSS_NAMES]
PAIRS += product(("focal_loss", "rank_sort_loss"), ("high_order", "position"))


@pytest.mark.parametrize(("kind", "cost"), PAIRS)
def test_three_steps_stay_finite(model: torch.nn.Module, kind: str, cost: str) -> None:
    model = copy.deepcopy(model).train()
    matcher = COSTS[cost](2.0, 5.0, 2.0)
    matcher.iter = 1
    balanced = "rank" in kind
    model.criterion = SetCriterion(
        5, matcher, WEIGHTS, loss_class_type=kind, set_losses={}, self_balanced=balanced
    )
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    for _ in range(3):
        losses = model(BATCH)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert all(loss.isfinite() for loss in losses.values())
        assert all(p.grad.isfinite().all() for p in parameters)
        optimizer.step()
    with torch.no_grad():
        found = model.eval()(BATCH)[0]["instances"]
    assert len(found) > 0 and found.scores.isfinite().all()
