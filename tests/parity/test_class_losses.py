"""Class losses against what their released codes compute in float64, in value and gradient.

DEIM 09d35d5 (mal), D-FINE 4a1f73a (dfine_vfl), Stable-DINO e3a5400, RF-DETR 35ac6ab, RankSortLoss
b41f64d and BucketedRankingBasedLosses 9ba3b0e. ``class_losses.json``: of each kit the pairs, labels
and IoUs, and of each loss its value (ranking and sorting error) and the gradient's norm and product
with ``recipe.signed("g", "logits", shape)``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from detrex.modeling.losses import Quality, build_class_loss
from detrex.modeling.losses.rank_sort import RankSortLoss
from detrex.modeling.matcher import HungarianMatcher, Matches
from projects.stabledino.modeling import StableDINOCriterion

from . import kits, recipe

KITS = json.loads((Path(__file__).parent / "class_losses.json").read_text())


def stable_dino(**options):
    return StableDINOCriterion(5, HungarianMatcher(), {}, **options).query_loss


LOSSES = {
    "mal": lambda: build_class_loss("mal_loss", 0.25, 1.5),
    "dfine_vfl": lambda: build_class_loss("varifocal_detached_loss", 0.25, 2.0),
    "rf_ia_bce": lambda: build_class_loss("ia_bce_loss", 0.25, 2.0),
    "rf_position": lambda: build_class_loss("position_supervised_linear_loss", 0.25, 2.0),
    "rf_varifocal": lambda: build_class_loss("varifocal_loss", 0.25, 2.0),
    "stable_dino": stable_dino,
    "stable_dino_exp": lambda: stable_dino(target_post_process="exp"),
    "stable_dino_sin": lambda: stable_dino(target_post_process="sin"),
    "stable_dino_alpha.5": lambda: stable_dino(ta_alpha=0.5),
    "rank_sort": RankSortLoss,
    "rank_sort_d1": lambda: RankSortLoss(delta=1.0),
    "bucketed_rank_sort": lambda: RankSortLoss(bucketed=True),
    "bucketed_rank_sort_d1": lambda: RankSortLoss(delta=1.0, bucketed=True),
}
# Which of a positive and a negative of equal score stands first depends on their sort.
OPEN = {("ties", "bucketed_rank_sort"), ("ties", "bucketed_rank_sort_d1")}


def pairs_of(kit: dict, iou: str) -> tuple[Matches, torch.Tensor, Quality]:
    rows = [
        (b, query, 100 * b + target, kit["labels"][b][target], value)
        for b, (pairs, values) in enumerate(zip(kit["pairs"], kit[iou], strict=True))
        for (query, target), value in zip(pairs, values, strict=True)
    ]
    image, query, target, labels, value = torch.tensor(rows, dtype=torch.float64).view(-1, 5).T
    matches = Matches(*(x.long() for x in (torch.zeros_like(image), image, query, target)))
    return matches, labels.long(), Quality(value, value, 1.0, matches.target, matches.image)


@pytest.mark.parametrize(
    ("kit", "name"),
    [(kit, name) for kit in KITS for name in KITS[kit]["losses"] if (kit, name) not in OPEN],
)
def test_value_and_gradient(kit: str, name: str) -> None:
    expected = KITS[kit]["losses"][name]
    matches, labels, quality = pairs_of(KITS[kit], "iou_detrex" if "stable" in name else "iou")
    logits = kits.build(KITS[kit]["spec"]).logits[None].requires_grad_()
    objects = sum(map(len, KITS[kit]["labels"]))
    loss = LOSSES[name]()
    value = loss(logits, matches, labels, quality).sum()
    if not loss.is_mean:
        value = value / max(objects, 1)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.isfinite() and gradient.isfinite().all()
    *errors, norm, product = map(float, expected)
    if not torch.tensor([*errors, norm, product]).isfinite().all():
        return  # released code overflows
    assert value.item() == pytest.approx(sum(errors), rel=1e-7, abs=1e-7)
    direction = torch.as_tensor(recipe.signed("g", "logits", tuple(logits.shape[1:])))
    assert gradient.norm().item() == pytest.approx(norm, rel=1e-6, abs=1e-12)
    assert (gradient[0] * direction).sum().item() == pytest.approx(product, abs=1e-6 * norm + 1e-12)
