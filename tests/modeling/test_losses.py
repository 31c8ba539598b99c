"""Every class loss and its gradient against its formula for single scores; extreme logits."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from detrex.modeling.losses import CLASS_LOSSES, Quality, build_class_loss
from detrex.modeling.matcher import Matches

ALPHA, GAMMA = 0.25, 2.0
# Two queries of one target, one of another, in another image: score, IoU, GIoU, bag, image.
SCORE, IOU, GIOU, BAG = [0.3, 0.8, 0.05], [0.6, 0.4, 0.9], [0.5, 0.2, 0.85], [4, 4, 9]
IMAGE = [1, 1, 3]


def joint(s: float, u: float) -> float:
    return max(s**ALPHA * u ** (1 - ALPHA), 0.01)


def tal_target(i: int) -> float:
    bag = [j for j in range(3) if BAG[j] == BAG[i]]
    metric = {j: SCORE[j] * IOU[j] ** 6 for j in bag}
    return metric[i] / max(metric.values()) * max(IOU[j] for j in bag)


def dw_positive(i: int) -> float:
    c = [s * math.exp(-5 * (1 - g)) for s, g in zip(SCORE, GIOU, strict=True)]
    total = sum(math.exp(3 * c[j]) * c[j] for j in range(3) if BAG[j] == BAG[i])
    return ALPHA * math.exp(5 * c[i]) * c[i] / total


def dw_negative(s: float, u: float) -> float:
    return s**2 * (1.0 if u < 0.5 else (1 - u**2) / (1 - 0.25))


def share_of_image(i: int, exponent: float) -> float:
    """IoU^exponent over the highest of the image."""
    return (IOU[i] / max(u for u, b in zip(IOU, IMAGE, strict=True) if b == IMAGE[i])) ** exponent


def position(i: int, s: float, exponent: float) -> tuple[float, float]:
    t = share_of_image(i, exponent)
    return toward(t, ALPHA * (t - s) ** 2)


def toward(t: float, weight: float) -> tuple[float, float]:
    """(w_pos, w_neg) of a soft target and its weight."""
    return weight * t, weight * (1 - t)


def musu(s: float, t: float) -> tuple[float, float]:
    return (s - t) ** 2 * t, s**2 * (1 - t) ** 4


# (w_pos, w_neg) of the i-th pair: score s, IoU u, GIoU g, and d, the score without gradient
PAIRS = {
    "focal_loss": lambda i, s, u, g, d: (ALPHA * (1 - s) ** 2, 0.0),
    "giou_focal_loss": lambda i, s, u, g, d: toward((g + 1) / 2, ALPHA * ((g + 1) / 2 - s) ** 2),
    "ia_bce_loss": lambda i, s, u, g, d: toward(joint(d, u), 1.0),
    "quality_focal_loss": lambda i, s, u, g, d: toward(u, (s - u) ** 2),
    "varifocal_loss": lambda i, s, u, g, d: toward(u, u),
    "varifocal_detached_loss": lambda i, s, u, g, d: toward(u, u),
    "task_aligned_loss": lambda i, s, u, g, d: toward(tal_target(i), (s - tal_target(i)) ** 2),
    "musu_loss": lambda i, s, u, g, d: musu(s, joint(d, u)),
    "dual_weighting_loss": lambda i, s, u, g, d: (dw_positive(i), dw_negative(d, u)),
    "ia_bce_focal_loss": lambda i, s, u, g, d: toward(joint(d, u), (joint(d, u) - s) ** 2),
    "align_symmetric_loss": lambda i, s, u, g, d: ((joint(d, u) - s) ** 2,) * 2,
    "align_asymmetric_loss": lambda i, s, u, g, d: (
        (joint(d, u) - s) ** 2,
        (1 - joint(d, u)) * s**2,
    ),
    "mal_loss": lambda i, s, u, g, d: toward(u**GAMMA, 1.0),
    "position_supervised_loss": lambda i, s, u, g, d: position(i, s, 2),
    "position_supervised_linear_loss": lambda i, s, u, g, d: position(i, s, 1),
}
# factor of s^2 in the weight of a negative, where it is not 1
NEGATIVE = {
    "focal_loss": 1 - ALPHA,
    "giou_focal_loss": 1 - ALPHA,
    "varifocal_loss": 1 - ALPHA,
    "varifocal_detached_loss": 1 - ALPHA,
    "position_supervised_loss": 1 - ALPHA,
    "position_supervised_linear_loss": 1 - ALPHA,
}
DETACHED = {"varifocal_detached_loss", "mal_loss"}  # weights of negatives have no gradient


def pair_loss(name: str, i: int, s: float, d: float) -> float:
    """The formula of the i-th pair, with a score s where the gradient flows and d elsewhere."""
    w_pos, w_neg = PAIRS[name](i, s, IOU[i], GIOU[i], d)
    return -w_pos * math.log(s) - w_neg * math.log(1 - s)


def negative_loss(name: str, s: float, d: float) -> float:
    """The formula of a score s whose class is not the target's."""
    weight = (d if name in DETACHED else s) ** 2
    return -NEGATIVE.get(name, 1.0) * weight * math.log(1 - s)


def slope(function, x: float) -> float:
    """The derivative of a function of a logit."""
    return (function(x + 1e-5) - function(x - 1e-5)) / 2e-5


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def evaluate(name: str, logits: torch.Tensor, positive: bool, gamma: float = GAMMA):
    """Loss of each of the three logits (3,), a layer with one query and one class each."""
    pairs = torch.arange(3 if positive else 0)
    zero = torch.zeros_like(pairs)
    iou, giou, bag, image = (torch.tensor(x)[pairs] for x in (IOU, GIOU, BAG, IMAGE))
    quality = Quality(iou, giou, 1.0, bag, image)
    loss = build_class_loss(name, ALPHA, gamma)
    return loss(logits.view(-1, 1, 1, 1), Matches(pairs, zero, zero, zero), zero, quality)


def test_every_loss_has_a_formula_here() -> None:
    assert set(PAIRS) == set(CLASS_LOSSES)


@pytest.mark.parametrize("name", PAIRS)
def test_values_equal_the_formula(name: str) -> None:
    logits = torch.tensor(SCORE).logit()
    pairs = [pair_loss(name, i, s, s) for i, s in enumerate(SCORE)]
    assert evaluate(name, logits, True).tolist() == pytest.approx(pairs, rel=1e-4)
    negatives = [negative_loss(name, s, s) for s in SCORE]
    assert evaluate(name, logits, False).tolist() == pytest.approx(negatives, rel=1e-4)


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_equal_the_formulas(name: str) -> None:
    formulas = {
        True: lambda i, x: pair_loss(name, i, sigmoid(x), SCORE[i]),
        False: lambda i, x: negative_loss(name, sigmoid(x), SCORE[i]),
    }
    for positive, formula in formulas.items():
        logits = torch.tensor(SCORE).logit().requires_grad_()
        evaluate(name, logits, positive).sum().backward()
        slopes = [slope(partial(formula, i), x) for i, x in enumerate(logits.tolist())]
        assert logits.grad.tolist() == pytest.approx(slopes, rel=1e-3)


def test_beta_of_the_quality_focal_loss_is_gamma() -> None:
    logits = torch.tensor(SCORE).logit()
    losses = evaluate("quality_focal_loss", logits, True, gamma=1.0).tolist()
    for value, s, u in zip(losses, SCORE, IOU, strict=True):
        bce = -u * math.log(s) - (1 - u) * math.log(1 - s)
        assert value == pytest.approx(abs(s - u) * bce, rel=1e-4)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("logit", [-50.0, 0.0, 50.0])
def test_extreme_logits_give_finite_values_and_gradients(name, positive, logit) -> None:
    logits = torch.full((3,), logit, requires_grad=True)
    loss = evaluate(name, logits, positive)
    loss.sum().backward()
    assert loss.isfinite().all() and (loss >= 0).all()
    assert logits.grad.isfinite().all()


def test_only_the_matched_class_of_a_query_is_positive() -> None:
    logits = torch.linspace(-3, 3, 24).view(1, 2, 3, 4)
    place = tuple(torch.tensor(x) for x in ([0, 0], [0, 1], [2, 0], [3, 1]))
    quality = Quality(torch.tensor([0.5, 0.9]), torch.tensor([0.4, 0.8]), torch.tensor([1.0, 0.5]))
    loss = build_class_loss("ia_bce_loss", ALPHA, GAMMA)
    total = loss(logits, Matches(*place[:3], torch.arange(2)), place[3], quality)
    p = logits.sigmoid()
    plain = -(p**GAMMA) * torch.log(1 - p)
    t = torch.tensor([joint(s, u) for s, u in zip(p[place].tolist(), (0.5, 0.9), strict=True)])
    t = t * torch.tensor([1.0, 0.5])
    plain[place] = -t * p[place].log() - (1 - t) * torch.log(1 - p[place])
    torch.testing.assert_close(total, plain.sum().view(1))
