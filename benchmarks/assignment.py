"""Assignment with k queries per target against scipy with k copies of every target.

The clock is this thread's CPU time. Real costs are the criterion benchmark's; random ones have no
structure; contended ones have rank one, so that all targets want the same queries.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks import criterion
from detrex.modeling.matcher import HighOrderMatcher
from detrex.modeling.matcher.solver import solve

GOAL = 20  # times faster, with k > 1
SIZES = (("one-to-one", 300, 1), ("one-to-many", 1500, 6), ("proposals", criterion.TOKENS, 1))
PROBLEMS = 12  # six layers of two images


def costs(
    kind: str, queries: int, objects: int, device: str = "cpu"
) -> list[np.ndarray]:  # (G, N) each
    """Problems of one size."""
    random = np.random.RandomState(0)
    if kind == "random":
        problems = [random.rand(objects, queries) for _ in range(PROBLEMS)]
    elif kind == "contended":
        problems = [-np.outer(random.rand(objects), random.rand(queries)) for _ in range(PROBLEMS)]
    else:
        problems = real(kind, queries, objects, device)
    return [np.ascontiguousarray(cost, np.float32) for cost in problems]


def real(kind: str, queries: int, objects: int, device: str) -> list[np.ndarray]:
    """The criterion benchmark's costs; ``kind`` is the matcher's phase."""
    decoder, encoder, targets = criterion.inputs(2, objects, device=device)
    matcher = HighOrderMatcher(2.0, 5.0, 2.0, matcher_change_iter=0 if kind == "high-order" else 1)
    matcher.iter = 0
    proposals = queries == criterion.TOKENS
    logits, boxes = (x.detach()[:, :, -queries:] for x in (encoder if proposals else decoder))
    blocks = matcher.costs(logits, boxes, targets, class_agnostic=proposals)
    return [cost.T.cpu().numpy() for block in blocks for cost in block]


def by_scipy(problems: list[np.ndarray], copies: int) -> list[tuple]:
    """(queries, targets) of each problem."""
    matches = []
    for cost in problems:
        query, column = linear_sum_assignment(np.tile(cost.T, (1, copies)))
        matches.append((query, column % len(cost)))
    return matches


def ours(problems: list[np.ndarray], copies: int) -> list[np.ndarray]:
    return solve(problems, [copies] * len(problems))


def total(problems: list[np.ndarray], matches: list) -> float:
    """Exactly rounded sum of the chosen costs."""
    chosen = (cost[target, query] for cost, (query, target) in zip(problems, matches, strict=True))
    return math.fsum(np.concatenate([cost.astype(float) for cost in chosen]))


def time_row(
    size: str,
    queries: int,
    copies: int,
    kind: str,
    objects: int,
    repeats: int,
    device: str = "cpu",
) -> dict:
    """Medians of both sides in turns; ValueError if their total costs differ."""
    problems = costs(kind, queries, objects, device)
    if total(problems, by_scipy(problems, copies)) != total(problems, ours(problems, copies)):
        raise ValueError(f"{size}, {kind} costs, {objects} objects: the total costs differ")
    times: dict = {by_scipy: [], ours: []}
    for _ in range(repeats):
        for function, seconds in times.items():
            start = time.thread_time()
            function(problems, copies)
            seconds.append(time.thread_time() - start)
    base, fast = map(statistics.median, times.values())
    row = {"what": f"assignment, {size}, {queries} queries, {objects} objects, {kind} costs"}
    row |= {"baseline_s": base, "ours_s": fast, "ratio": base / fast}
    return row | ({"goal": GOAL} if copies > 1 else {})


def run(
    repeats: int = 5,
    device: str = "cpu",
    kinds: Sequence[str] = ("standard", "high-order", "random", "contended"),
    counts: Sequence[int] = (7, 20, 60),
) -> list[dict]:
    """One row per size and kind of costs; both sides solve on the CPU what ``device`` computed."""
    return [
        time_row(*size, kind, objects, repeats, device)
        for size in SIZES
        for kind in kinds
        for objects in counts
    ]
