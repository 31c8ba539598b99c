"""One-to-many assignment against the released codes: DAC-DETR a186a20 and Mr. DETR 8b80a70.

``one_to_many.json``: of each image the pairs (query, target) by target and falling quality, and of
the quality (targets, queries) the norm and the product with ``recipe.signed("g", "score<image>")``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from detrex.modeling.matcher import OneToManyMatcher

from . import kits, recipe

KITS = json.loads((Path(__file__).parent / "one_to_many.json").read_text())
WEIGHTS = {"dac": 0.7, "mr_align": 0.8}


def matches_of(kit: str, matcher: OneToManyMatcher) -> list[tuple[int, int, int]]:
    """(image, query, target in the image) of a kit."""
    logits, boxes, targets = kits.build(KITS[kit]["spec"])
    matches = matcher.match(logits[None], boxes[None], targets).wait()
    first = [0, *torch.tensor([len(t["labels"]) for t in targets]).cumsum(0).tolist()]
    rows = zip(*(x.tolist() for x in matches), strict=True)
    return [(image, query, target - first[image]) for _, image, query, target in rows]


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("kit", [kit for kit in KITS if "dac" in KITS[kit]])
def test_pairs_are_those_of_the_released_code(kit: str, name: str) -> None:
    matcher = OneToManyMatcher(iou_weight=WEIGHTS[name], as_released=True)
    pairs = KITS[kit][name]["pairs"]
    expected = [(b, q, t) for b, image in enumerate(pairs) for q, t in image]
    assert matches_of(kit, matcher) == expected
    logits, boxes, targets = kits.build(KITS[kit]["spec"])
    for b, (norm, product) in enumerate(KITS[kit][name]["quality"]):
        image = logits[None, b].float(), boxes[None, b].float()
        quality = matcher.quality(*image, targets[b]["labels"], targets[b]["boxes"])[0].T
        direction = torch.as_tensor(recipe.signed("g", f"score{b}", tuple(quality.shape)))
        assert quality.norm().item() == pytest.approx(norm, rel=1e-4)
        assert (quality * direction).sum().item() == pytest.approx(product, rel=1e-3)


def test_fewer_queries_than_a_target_may_have_are_no_fault() -> None:
    """The released code raises."""
    for as_released in (True, False):
        pairs = matches_of("fewer_than_k_queries", OneToManyMatcher(as_released=as_released))
        assert 1 <= len(pairs) <= 4


@pytest.mark.parametrize("kit", [kit for kit in KITS if "dac" in KITS[kit]])
def test_by_default_a_query_answers_once_and_good_targets_get_their_best(kit: str) -> None:
    """Only a target whose best query serves another better may end without."""
    logits, boxes, targets = kits.build(KITS[kit]["spec"])
    matcher = OneToManyMatcher()
    pairs = matches_of(kit, matcher)
    assert len({(b, q) for b, q, _ in pairs}) == len(pairs)
    for b, target in enumerate(targets):
        image = logits[None, b].float(), boxes[None, b].float()
        quality = matcher.quality(*image, target["labels"], target["boxes"])[0]
        for t in range(len(target["labels"])):
            queries = [q for i, q, g in pairs if (i, g) == (b, t)]
            best = int(quality[:, t].argmax())
            assert best in queries or quality[best].max() > quality[best, t]
            assert len(queries) <= 6
            assert all(quality[q, t] >= 0.4 or q == best for q in queries)


def test_a_random_choice_of_too_many_positives_counts() -> None:
    limits = (None, 5, 30)
    free, five, thirty = (
        matches_of("crowd", OneToManyMatcher(as_released=True, most_positives=most))
        for most in limits
    )
    assert free == thirty and set(five) < set(free)
    assert all(sum(b == image for b, _, _ in five) <= 5 for image in range(2))
