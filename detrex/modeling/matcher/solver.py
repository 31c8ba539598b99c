"""Solving assignments on the host: ``solver.c`` without copies of targets, or scipy with them.

scipy does what the C solver leaves: problems with more copies of targets than queries, and ties,
where the choice has to be the same with and without a compiler.

Legend: N queries, G targets, M matches of a problem.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, chain
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from detrex.utils.compiler import library_or_reason

SOURCE = Path(__file__).with_name("solver.c")


def why_unavailable() -> str | None:
    """Why scipy solves everything; None if the C solver runs."""
    library = library_or_reason(SOURCE)
    return library if isinstance(library, str) else None


def solve(costs: Sequence[np.ndarray], copies: Sequence[int]) -> list[np.ndarray]:
    """The matches (2, M) of each problem, query and target, in the order of queries.

    costs: (G, N) each, contiguous float32; ``copies``: how many queries each target of
    the problem takes. When queries run out, the targets of highest cost stay unmatched.
    """
    solved: list[np.ndarray | None] = [None] * len(costs)
    if why_unavailable() is None:
        sizes = [(len(c) * k, c.shape[1]) for c, k in zip(costs, copies, strict=True)]
        fitting = [i for i, (needed, queries) in enumerate(sizes) if 0 < needed <= queries]
        for i, matches in zip(fitting, _in_c(costs, copies, fitting), strict=True):
            solved[i] = matches
    if left := [i for i, matches in enumerate(solved) if matches is None]:
        problems = [costs[i] for i in left], [copies[i] for i in left]
        for i, matches in zip(left, _map(_by_scipy, *problems), strict=True):
            solved[i] = matches
    return solved


def _map(function: Callable, *arguments: Sequence) -> list:
    """``map`` in as many threads as PyTorch has: scipy releases Python's lock."""
    threads = min(torch.get_num_threads(), len(arguments[0]))
    if threads < 2:
        return list(map(function, *arguments))
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, *arguments))


def _in_c(
    costs: Sequence[np.ndarray], copies: Sequence[int], chosen: list[int]
) -> list[np.ndarray | None]:
    """Matches of the chosen problems, None for those with a tie or without a finite solution."""
    sizes = [(*costs[i].shape[::-1], copies[i]) for i in chosen]
    ends = list(accumulate((targets * capacity for _, targets, capacity in sizes), initial=0))
    matches = np.empty((2, ends[-1]), np.int64)
    query, target = (matches.ctypes.data + row * matches.strides[0] for row in (0, 1))
    solved = (ctypes.c_int8 * len(chosen))()
    library_or_reason(SOURCE).assign_all(
        (ctypes.c_void_p * len(chosen))(*[costs[i].ctypes.data for i in chosen]),
        (ctypes.c_int64 * (3 * len(chosen)))(*chain.from_iterable(sizes)),
        (ctypes.c_int64 * len(chosen))(*ends[:-1]),
        *(ctypes.c_void_p(query), ctypes.c_void_p(target), solved),
        *(ctypes.c_int64(len(chosen)), ctypes.c_int64(torch.get_num_threads())),
    )
    spans = zip(ends, ends[1:], solved, strict=False)
    return [matches[:, start:end] if ok else None for start, end, ok in spans]


def _by_scipy(cost: np.ndarray, copies: int) -> np.ndarray:
    # A diverged model has NaN costs: its NaN loss is a better error than an exception here.
    finite = np.nan_to_num(cost, nan=1e8, posinf=1e8, neginf=-1e8)
    query, column = linear_sum_assignment(np.tile(finite.T, (1, copies)))
    return np.stack([query, column % max(len(cost), 1)])
