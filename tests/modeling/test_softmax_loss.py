"""DETR's class loss against a loop over queries, and the criterion that uses it."""

from __future__ import annotations

import pytest
import torch

from detrex.modeling import HungarianMatcher, SetCriterion
from detrex.modeling.losses.softmax import softmax_cross_entropy
from detrex.modeling.matcher import Matches

WEIGHTS = {"loss_class": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}


def criterion(classes: int = 3, **options) -> SetCriterion:
    matcher = HungarianMatcher(1, 5.0, 2.0, cost_class_type="ce_cost")
    return SetCriterion(classes, matcher, WEIGHTS, loss_class_type="ce_loss", **options)


def test_equals_the_plain_weighted_mean() -> None:
    logits = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    owner = {(0, 0, 1): 2, (0, 1, 3): 0, (1, 0, 0): 1}  # (layer, image, query): class
    index = [torch.tensor(x) for x in zip(*owner, strict=True)]
    matches = Matches(*index, torch.zeros(3, dtype=torch.long))
    weight = torch.tensor([1.0, 1.0, 1.0, 0.1])
    loss = softmax_cross_entropy(logits, matches, torch.tensor([2, 0, 1]), weight)
    for layer in range(2):
        total = norm = 0.0
        for image in range(2):
            for query in range(4):
                cls = owner.get((layer, image, query), 3)
                p = logits[layer, image, query].exp() / logits[layer, image, query].exp().sum()
                total = total - weight[cls] * p[cls].log()
                norm = norm + weight[cls]
        torch.testing.assert_close(loss[layer], total / norm)


def test_weights_of_the_classes_are_stored() -> None:
    assert criterion(eos_coef=0.2).state_dict()["empty_weight"].tolist() == pytest.approx(
        [1.0, 1.0, 1.0, 0.2]
    )


@pytest.mark.parametrize("objects", [2, 0])
def test_class_loss_does_not_depend_on_the_number_of_objects(objects: int) -> None:
    outputs = {
        "pred_logits": torch.zeros(1, 5, 4, requires_grad=True),
        "pred_boxes": torch.full((1, 5, 4), 0.5, requires_grad=True),
    }
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.3, 0.3, 0.1, 0.1]])[:objects]
    targets = [{"labels": torch.tensor([0, 2])[:objects], "boxes": boxes}]
    losses = criterion()(outputs, targets)
    assert losses["loss_class"].item() == pytest.approx(torch.tensor(4.0).log().item(), rel=1e-6)
    sum(losses.values()).backward()
    assert outputs["pred_logits"].grad.abs().sum() > 0


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[[50.0, -50.0, 0.0, 50.0], [-50.0, 50.0, 50.0, -50.0]]])
    outputs = {"pred_logits": logits.requires_grad_(), "pred_boxes": torch.full((1, 2, 4), 0.5)}
    targets = [{"labels": torch.tensor([1]), "boxes": torch.full((1, 4), 0.4)}]
    loss = criterion()(outputs, targets)["loss_class"]
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
