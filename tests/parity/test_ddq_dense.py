"""DDQ's dense branch against mmdetection 3.3.0's auxiliary loss.

``ddq_dense.json``: of each image the losses, the class that each query answers for (-1: none) and
its soft target; and norm and dot product of the gradients of the losses.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from detrex.modeling.criterion import Predictions
from detrex.modeling.matcher import Assignment, HungarianMatcher
from detrex.modeling.queries import QueryGroup
from projects.ddq_detr.modeling import DDQCriterion

from . import kits, recipe

KITS = json.loads((Path(__file__).parent / "ddq_dense.json").read_text())


def assert_norm_and_dot(x: Tensor, key: str, expected: list[float], rel: float) -> None:
    x = x.numpy().astype(np.float64)
    norm, dot = np.linalg.norm(x), (x * recipe.signed("g", key, x.shape)).sum()
    assert [norm, dot] == pytest.approx(expected, rel=rel, abs=rel * (expected[0] or 1e-12))


@pytest.mark.parametrize("name", KITS)
def test_losses_and_gradients_are_those_of_the_released_code(name: str) -> None:
    kit = KITS[name]
    logits, boxes, targets = kits.build(kit["spec"])
    targets = [{"labels": t["labels"], "boxes": t["boxes"].float()} for t in targets]
    logits, boxes = (x.float().requires_grad_() for x in (logits, boxes))
    group = QueryGroup("_dense", logits.shape[1], copies=4)
    predictions = Predictions(logits[None], boxes[None], group)
    criterion = DDQCriterion(logits.shape[2], HungarianMatcher(), {})
    losses = criterion.losses_of_sets([predictions], targets)
    assert set(losses) == {"loss_class_dense", "loss_giou_dense"}
    expected = [sum(kit["losses"][f"aux_loss_{kind}"]) for kind in ("cls", "bbox")]
    values = [losses["loss_class_dense"].item(), 2 * losses["loss_giou_dense"].item()]
    assert values == pytest.approx(expected, rel=1e-5, abs=1e-12)
    dlogits = torch.autograd.grad(losses["loss_class_dense"], logits, retain_graph=True)[0]
    dboxes = torch.autograd.grad(2 * losses["loss_giou_dense"], boxes)[0]
    assert_norm_and_dot(dlogits, "logits", kit["dlogits"], 1e-4)
    assert_norm_and_dot(dboxes, "boxes", kit["dboxes"], 1e-4)


@pytest.mark.parametrize("name", KITS)
def test_assignment_and_soft_targets_are_those_of_the_released_code(name: str) -> None:
    kit = KITS[name]
    logits, boxes, targets = kits.build(kit["spec"])
    group = QueryGroup("_dense", logits.shape[1], copies=4)
    predictions = Predictions(logits[None], boxes[None], group)
    criterion = DDQCriterion(logits.shape[2], HungarianMatcher(), {})
    matches = Assignment([criterion.problems(predictions, targets)]).solve()
    (pairs,) = criterion.match_pairs([predictions], matches, targets)
    place = pairs.matches.image, pairs.matches.query
    labels = torch.full(logits.shape[:2], -1).index_put(place, pairs.labels)
    assert labels.tolist() == kit["labels"]
    weight = criterion.pair_weights(predictions, pairs.matches, pairs.labels, pairs.iou)
    soft_targets = torch.zeros(logits.shape[:2]).index_put(place, weight.float())
    torch.testing.assert_close(soft_targets, torch.tensor(kit["targets"]), rtol=1e-5, atol=1e-6)
