"""The C solver against scipy with copied targets: the same matches, also where costs tie."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from detrex.modeling.matcher import Assignment, Problems, assign, solver

KINDS = {
    "random": lambda r, g, n: r.rand(g, n),
    "few integers": lambda r, g, n: r.randint(0, 4, (g, n)),
    "integers": lambda r, g, n: r.randint(0, 500, (g, n)),
    "zeros": lambda r, g, n: np.zeros((g, n)),
    "contended": lambda r, g, n: -np.outer(r.rand(g), r.rand(n)),
    "tiny": lambda r, g, n: -(r.rand(g, n) ** 30),
}
needs_compiler = pytest.mark.skipif(solver.why_unavailable() is not None, reason="no C compiler")


def problems(kind: str, count: int = 200) -> tuple[list[np.ndarray], list[int]]:
    random = np.random.RandomState(0)
    costs, copies = [], []
    for _ in range(count):
        k, targets, queries = random.randint(1, 7), random.randint(0, 9), random.randint(1, 90)
        costs.append(KINDS[kind](random, targets, queries).astype(np.float32))
        copies.append(k)
    return costs, copies


def scipy_matches(cost: np.ndarray, copies: int) -> tuple[np.ndarray, np.ndarray]:
    query, column = linear_sum_assignment(np.tile(cost.T, (1, copies)))
    return query, column % max(len(cost), 1)


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_matches_and_total_equal_scipys(kind: str) -> None:
    """1,200 problems with 0 to 8 targets taken 1 to 6 times by 1 to 89 queries."""
    costs, copies = problems(kind)
    for cost, k, (query, target) in zip(costs, copies, solver.solve(costs, copies), strict=True):
        expected = scipy_matches(cost, k)
        best = math.fsum(cost[expected[1], expected[0]].astype(float))
        assert math.fsum(cost[target, query].astype(float)) == best
        assert np.array_equal(query, expected[0]) and np.array_equal(target, expected[1])


@needs_compiler
def test_the_c_solver_leaves_ties_and_only_ties() -> None:
    random = np.random.RandomState(1)
    unique = random.rand(4, 60).astype(np.float32)
    twice = np.concatenate([unique, unique[:1]])  # two equal objects
    border = np.array([[1, 2, 2, 3]], np.float32)  # either of two queries
    found = solver._in_c([unique, twice, border, border], [6, 6, 2, 3], [0, 1, 2, 3])
    assert [matches is not None for matches in found] == [True, False, False, True]


def test_the_choice_does_not_depend_on_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for available in (True, False):
        if not available:
            monkeypatch.setattr(solver, "library_or_reason", lambda source: "none here")
        results.append([solver.solve(*problems(kind, 40)) for kind in KINDS])
    for fast, plain in zip(*results, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(fast, plain, strict=True))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_costs_that_are_no_numbers_still_give_an_assignment(bad: float) -> None:
    cost = torch.rand(1, 12, 3)
    for broken in (cost.index_fill(1, torch.tensor([2, 5]), bad), torch.full_like(cost, bad)):
        matches = assign([broken], copies=2)
        assert len(matches.query.unique()) == 6
        assert torch.bincount(matches.target).tolist() == [2, 2, 2]


def test_sets_solved_together_equal_sets_solved_alone() -> None:
    sets = [
        Problems([torch.rand(2, 30, 3), torch.rand(2, 30, 0)], [2, 1]),
        Problems([torch.rand(1, 9, 4), torch.rand(1, 9, 2)], [6], share=0.5),
        Problems([torch.rand(3, 20, 1), torch.rand(3, 20, 5)], [1, 1, 1]),
    ]
    for together, problem in zip(Assignment(sets).solve(), sets, strict=True):
        alone = Assignment([problem]).solve()[0]
        assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))
    assert Assignment([]).solve() == []
