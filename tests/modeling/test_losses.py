"""Every class loss against its formula for single scores, and with extreme logits."""

from __future__ import annotations

import math

import pytest
import torch

from detrex.modeling.losses import CLASS_LOSSES, Quality, build_class_loss
from detrex.modeling.matcher import Matches

ALPHA, GAMMA = 0.25, 2.0
# Two queries of one target, one of another: score, IoU, GIoU, bag.
SCORE, IOU, GIOU, BAG = [0.3, 0.8, 0.05], [0.6, 0.4, 0.9], [0.5, 0.2, 0.85], [4, 4, 9]


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


# (w_pos, w_neg) of the i-th pair (score s, IoU u, GIoU g), and the factor of s^2 for negatives
FORMULAS = {
    "focal_loss": (lambda i, s, u, g: (ALPHA * (1 - s) ** 2, 0.0), 1 - ALPHA),
    "giou_focal_loss": (
        lambda i, s, u, g: tuple(
            ALPHA * ((g + 1) / 2 - s) ** 2 * t for t in ((g + 1) / 2, (1 - g) / 2)
        ),
        1 - ALPHA,
    ),
    "ia_bce_loss": (lambda i, s, u, g: (joint(s, u), 1 - joint(s, u)), 1.0),
    "quality_focal_loss": (lambda i, s, u, g: ((s - u) ** 2 * u, (s - u) ** 2 * (1 - u)), 1.0),
    "varifocal_loss": (lambda i, s, u, g: (u * u, u * (1 - u)), 0.75),
    "varifocal_detached_loss": (lambda i, s, u, g: (u * u, u * (1 - u)), 0.75),
    "task_aligned_loss": (
        lambda i, s, u, g: tuple(
            (s - tal_target(i)) ** 2 * t for t in (tal_target(i), 1 - tal_target(i))
        ),
        1.0,
    ),
    "musu_loss": (
        lambda i, s, u, g: (
            (s - joint(s, u)) ** 2 * joint(s, u),
            s**2 * (1 - joint(s, u)) ** 4,
        ),
        1.0,
    ),
    "dual_weighting_loss": (lambda i, s, u, g: (dw_positive(i), dw_negative(s, u)), 1.0),
    "ia_bce_focal_loss": (
        lambda i, s, u, g: tuple(
            (joint(s, u) - s) ** 2 * t for t in (joint(s, u), 1 - joint(s, u))
        ),
        1.0,
    ),
    "align_symmetric_loss": (lambda i, s, u, g: ((joint(s, u) - s) ** 2,) * 2, 1.0),
    "align_asymmetric_loss": (
        lambda i, s, u, g: ((joint(s, u) - s) ** 2, (1 - joint(s, u)) * s**2),
        1.0,
    ),
}


def evaluate(name: str, logits: torch.Tensor, positive: bool, gamma: float = GAMMA):
    """Loss of each of the three logits (3,), a layer with one query and one class each."""
    pairs = torch.arange(3 if positive else 0)
    zero = torch.zeros_like(pairs)
    quality = Quality(*(torch.tensor(x)[pairs] for x in (IOU, GIOU)), 1.0, torch.tensor(BAG)[pairs])
    loss = build_class_loss(name, ALPHA, gamma)
    return loss(logits.view(-1, 1, 1, 1), Matches(pairs, zero, zero, zero), zero, quality)


def test_every_loss_has_a_formula_here() -> None:
    assert set(FORMULAS) == set(CLASS_LOSSES)


@pytest.mark.parametrize("name", FORMULAS)
def test_values_equal_the_formula(name: str) -> None:
    pair, negative = FORMULAS[name]
    logits = torch.tensor(SCORE).logit()
    found = evaluate(name, logits, True).tolist()
    background = evaluate(name, logits, False).tolist()
    for i, (s, u, g) in enumerate(zip(SCORE, IOU, GIOU, strict=True)):
        w_pos, w_neg = pair(i, s, u, g)
        expected = -w_pos * math.log(s) - w_neg * math.log(1 - s)
        assert found[i] == pytest.approx(expected, rel=1e-4)
        assert background[i] == pytest.approx(-negative * s**2 * math.log(1 - s), rel=1e-4)


def test_beta_of_the_quality_focal_loss_is_gamma() -> None:
    logits = torch.tensor(SCORE).logit()
    found = evaluate("quality_focal_loss", logits, True, gamma=1.0).tolist()
    for value, s, u in zip(found, SCORE, IOU, strict=True):
        bce = -u * math.log(s) - (1 - u) * math.log(1 - s)
        assert value == pytest.approx(abs(s - u) * bce, rel=1e-4)


@pytest.mark.parametrize("name", FORMULAS)
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


def test_a_detached_negative_weight_has_no_gradient() -> None:
    logits = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
    (grad,) = torch.autograd.grad(evaluate("varifocal_detached_loss", logits, False).sum(), logits)
    p = logits.detach().sigmoid()
    torch.testing.assert_close(grad, (1 - ALPHA) * p**GAMMA * p)
