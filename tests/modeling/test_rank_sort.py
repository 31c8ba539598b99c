"""Rank & Sort against loops over scores, and what a criterion makes of it."""

from __future__ import annotations

import pytest
import torch

from detrex.modeling.criterion import ManyToOneCriterion, Predictions, SetCriterion
from detrex.modeling.losses import Quality, RankSortLoss
from detrex.modeling.matcher import HungarianMatcher, Matches
from detrex.modeling.queries import QueryGroup
from tests.modeling.test_criterion import WEIGHTS, predictions, proposals


def loops(scores: list[float], iou: list[float], delta: float):
    """Ranking error, sorting error and gradient (Oksuz et al. 2021, eq. 5 to 10)."""

    def ahead(i: int, j: int) -> float:
        return min(max((scores[j] - scores[i]) / (2 * delta) + 0.5, 0.0), 1.0)

    positives = [i for i, u in enumerate(iou) if u > 0]
    negatives = [i for i, u in enumerate(iou) if u == 0]
    ranking, sorting, gradient = 0.0, 0.0, [0.0] * len(scores)
    for i in positives:
        false = sum(ahead(i, n) for n in negatives)
        rank = sum(ahead(i, j) for j in positives)
        ranking_error = false / (rank + false)
        better = [j for j in positives if iou[j] >= iou[i]]
        worse = [j for j in positives if iou[j] < iou[i]]
        present = sum(ahead(i, j) * (1 - iou[j]) for j in positives) / rank
        best = sum(ahead(i, j) * (1 - iou[j]) for j in better) / sum(ahead(i, j) for j in better)
        missorted = sum(ahead(i, j) for j in worse)
        for n in negatives:
            gradient[n] += ranking_error * ahead(i, n) / false if false else 0.0
        for j in worse:
            gradient[j] += (present - best) * ahead(i, j) / missorted if missorted else 0.0
        gradient[i] -= ranking_error + (present - best if missorted else 0.0)
        ranking, sorting = ranking + ranking_error, sorting + present - best
    count = len(positives)
    return ranking / count, sorting / count, [g / count for g in gradient]


def pairs(layers: int = 2):
    """Two layers of two images, four queries and three classes; a target with two queries, a logit
    that two pairs share, a pair without overlap."""
    logits = torch.randn(layers, 2, 4, 3, generator=torch.Generator().manual_seed(3)).double()
    rows = [(0, 0, 0, 0), (0, 2, 0, 0), (1, 1, 1, 2), (1, 1, 2, 2), (1, 3, 3, 1)]
    image, query, target, label = torch.tensor(rows).T.repeat(1, layers)
    layer = torch.arange(layers).repeat_interleave(len(rows))
    iou = torch.tensor([0.9, 0.5, 0.3, 0.7, 0.0] * layers, dtype=torch.float64)
    iou = iou - 0.05 * layer * (iou > 0)
    weight = torch.tensor([1.0, 0.5, 1.0, 1.0, 1.0] * layers, dtype=torch.float64)
    return logits, Matches(layer, image, query, target), label, Quality(iou, iou, weight)


@pytest.mark.parametrize(("bucketed", "delta"), [(False, 0.5), (False, 5.0), (True, 5.0)])
def test_errors_and_gradients_are_those_of_loops(bucketed: bool, delta: float) -> None:
    """Buckets are exact where no comparison is clamped, but their negatives share a push."""
    logits, matches, labels, quality = pairs()
    logits.requires_grad_()
    loss = RankSortLoss(delta, bucketed)
    value = loss(logits, matches, labels, quality)
    value.sum().backward()
    for layer in range(2):
        iou = torch.zeros(2, 4, 3, dtype=torch.float64)
        for i in (matches.layer == layer).nonzero():
            place = matches.image[i], matches.query[i], labels[i]
            iou[place] = torch.maximum(iou[place], (quality.iou * quality.weight)[i])
        scores = logits[layer].flatten().tolist()
        ranking, sorting, gradient = loops(scores, iou.flatten().tolist(), delta)
        assert sorting > 0
        assert value[layer].item() == pytest.approx(ranking + sorting)
        assert loss.figures["ranking_error"][layer].item() == pytest.approx(ranking)
        assert loss.figures["sorting_error"][layer].item() == pytest.approx(sorting)
        update, gradient = logits.grad[layer].flatten(), torch.tensor(gradient).double()
        equal = iou.flatten() > 0 if bucketed else torch.ones(24, dtype=torch.bool)
        torch.testing.assert_close(update[equal], gradient[equal])
        torch.testing.assert_close(update.sum(), gradient.sum())


@pytest.mark.parametrize("bucketed", [False, True])
@pytest.mark.parametrize("scale", [0.0, 50.0])
def test_extreme_logits(bucketed: bool, scale: float) -> None:
    logits, matches, labels, quality = pairs()
    logits = (logits.sign() * scale).float().requires_grad_()
    quality = Quality(*(x.float() for x in quality[:3]))
    value = RankSortLoss(0.5, bucketed)(logits, matches, labels, quality)
    value.sum().backward()
    assert value.isfinite().all() and (value >= 0).all()
    assert logits.grad.isfinite().all() and logits.grad.any()


@pytest.mark.parametrize("bucketed", [False, True])
def test_without_positives_nothing_moves(bucketed: bool) -> None:
    logits = torch.randn(2, 1, 3, 4, requires_grad=True)
    empty = torch.empty(0, dtype=torch.int64)
    quality = Quality(torch.empty(0), torch.empty(0))
    value = RankSortLoss(bucketed=bucketed)(logits, Matches(*[empty] * 4), empty, quality)
    value.sum().backward()
    assert value.tolist() == [0.0, 0.0] and not logits.grad.any()


def test_scores_in_their_order_have_no_error() -> None:
    logits = torch.tensor([9.0, 6.0, 3.0, 0.0, -1.0]).view(1, 1, 5, 1).requires_grad_()
    zero, query = torch.zeros(3, dtype=torch.int64), torch.arange(3)
    quality = Quality(torch.tensor([0.9, 0.6, 0.4]), torch.zeros(3))
    value = RankSortLoss()(logits, Matches(zero, zero, query, query), zero, quality)
    value.sum().backward()
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    assert logits.grad.abs().max().item() == pytest.approx(0.0, abs=1e-6)


def criterion(kind=SetCriterion, **options):
    return kind(4, HungarianMatcher(2.0, 5.0, 2.0), WEIGHTS, **options)


@pytest.mark.parametrize("kind", ["rank_sort_loss", "bucketed_rank_sort_loss"])
def test_no_object_count_divides_errors(kind: str) -> None:
    """In every other loss, twice the images with the same objects leave the mean alone; here all
    images are in one order, so that the errors stay."""
    set_, targets = predictions()
    twice = Predictions(set_.logits.repeat(1, 2, 1, 1), set_.boxes.repeat(1, 2, 1, 1), set_.group)
    crit = criterion(loss_class_type=kind)
    once = crit.losses_of_sets([set_], targets)["loss_class"]
    figures = dict(crit.figures)
    both = crit.losses_of_sets([twice], targets * 2)["loss_class"]
    assert 0 < once.item() < 2
    assert sum(figures.values()).item() == pytest.approx(once.item())
    assert both.item() == pytest.approx(once.item(), abs=0.05)
    weighted = Predictions(set_.logits, set_.boxes, QueryGroup(size=8, weight=0.5))
    half = crit.losses_of_sets([weighted], targets)["loss_class"]
    assert half.item() == pytest.approx(once.item() / 2)


def test_figures_are_those_of_queries_in_the_last_layer() -> None:
    crit = criterion(loss_class_type="rank_sort_loss", set_losses={})
    sets = predictions()[0], proposals(agnostic=True)[0]
    losses = crit.losses_of_sets(sets, predictions()[1])
    assert set(crit.figures) == {"ranking_error", "sorting_error"}
    assert sum(crit.figures.values()).item() == pytest.approx(losses["loss_class"].item())
    assert not any(figure.requires_grad for figure in crit.figures.values())


def test_several_queries_of_a_target_are_sorted_by_their_weights() -> None:
    options = dict(kind=ManyToOneCriterion, loss_class_type="rank_sort_loss", match_num=[2, 2, 2])
    set_, targets = predictions()
    near, far = (criterion(**options, tau=tau) for tau in (0.1, 1e9))
    sharp = near.losses_of_sets([set_], targets)["loss_class"]
    assert sharp.item() != pytest.approx(far.losses_of_sets([set_], targets)["loss_class"].item())


@pytest.mark.parametrize("counts", [(3, 1), (0, 0), (2, 0)])
@pytest.mark.parametrize("kind", ["rank_sort_loss", "bucketed_rank_sort_loss", "focal_loss"])
def test_balanced_box_losses_have_the_value_of_the_class_loss(kind, counts) -> None:
    set_, targets = predictions(counts)
    plain = criterion(loss_class_type=kind).losses_of_sets([set_], targets)
    losses = criterion(loss_class_type=kind, self_balanced=True).losses_of_sets([set_], targets)
    for layer in ("", "_0"):
        value = losses[f"loss_class{layer}"]
        assert value == plain[f"loss_class{layer}"]
        for name in (f"loss_bbox{layer}", f"loss_giou{layer}"):
            assert losses[name].item() == pytest.approx(value.item() if any(counts) else 0.0)
            gradient, scaled = (
                torch.autograd.grad(x[name], set_.boxes, retain_graph=True)[0]
                for x in (plain, losses)
            )
            factor = value.item() / plain[name].item() if any(counts) else 0.0
            torch.testing.assert_close(scaled, gradient * factor)


def test_one_layer_after_the_other_is_balanced_alike() -> None:
    set_, targets = predictions(layers=1)
    crit = criterion(loss_class_type="rank_sort_loss", self_balanced=True)
    layer = {"pred_logits": set_.logits[0], "pred_boxes": set_.boxes[0]}
    indices = crit.matcher(layer, targets)
    losses = {
        name: value.item()
        for kind in ("boxes", "class")
        for name, value in crit.get_loss(kind, layer, targets, indices, 4).items()
    }
    expected = crit.losses_of_sets([set_], targets)
    assert losses == pytest.approx({name: value.item() for name, value in expected.items()})
