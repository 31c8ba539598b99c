"""The benchmarks of tools/benchmark.py on the device, at few sizes; tiny ones on the CPU."""

from __future__ import annotations

import importlib.util
from unittest.mock import patch

from benchmarks import assignment, attention, criterion, inference, line, rt_detr
from benchmarks.gpu.attention import sizes_on
from benchmarks.gpu.checks import CheckSkipped, Result
from benchmarks.gpu.steps import config


def time_attention(device: str) -> Result:
    repeats = 20 if device == "cuda" else 1
    with patch.multiple(attention, **sizes_on(device)):
        rows = [r for kind in attention.QUERIES for r in attention.time_rows(kind, repeats, device)]
        if device == "cuda":
            rows += [r for kind in attention.QUERIES for r in attention.memory_rows(kind, device)]
    return shown(rows)


def time_criterion(device: str) -> Result:
    if device == "cuda":
        return shown(criterion.run(2, device, ((2, 7, 5), (2, 20, 5), (8, 20, 30))))
    with patch.multiple(criterion, TOKENS=200):
        return shown(criterion.run(1, device, ((1, 2, 5),)))


def time_assignment(device: str) -> Result:
    return shown(assignment.run(1, device, ("standard", "high-order"), (7,)))


def time_inference(device: str) -> Result:
    """
    Raises:
        ValueError: the two sides' scores differ.
    """
    cases = inference.CASES["cuda"] if device == "cuda" else ((1, (64, 96)),)
    repeats = 4 if device == "cuda" else 1
    return shown(inference.measure(config(device, "fp32", False), cases, repeats, device))


def time_rt_detr(device: str) -> Result:
    """
    Raises:
        CheckSkipped: the transformers library is not installed.
        ValueError: the two sides' scores differ.
    """
    if importlib.util.find_spec("transformers") is None:
        raise CheckSkipped("transformers is not installed")
    cuda = device == "cuda"
    return shown(rt_detr.run(4 if cuda else 1, device, (1, 16) if cuda else (1,)))


def shown(rows: list[dict]) -> Result:
    """All rows, in the line the ratios by what was measured."""
    ratios = [f"{row['what'].partition(', ')[2]} {row['ratio']:.2g}x" for row in rows]
    for row in rows:
        print(line(row))
    return Result("; ".join(ratios), rows)
