"""Both sides of the criterion benchmark compute the same loss and gradients."""

from __future__ import annotations

import pytest
import torch

from benchmarks import assignment, criterion
from detrex.modeling.matcher import solver
from detrex.utils.operators import OperatorCounter


@pytest.mark.parametrize("high_order", [False, True])
@pytest.mark.parametrize("path", ["C", "PyTorch", "bf16 predictions"])
def test_baseline_equals_the_shipped_criterion(
    high_order: bool, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LAYERS", 2), ("CLASSES", 5), ("TOKENS", 50)):
        monkeypatch.setattr(criterion, name, value)
    decoder, encoder, targets = criterion.inputs(batch=2, objects=4)
    leaves = (*decoder, *encoder)
    results = []

    def ours(decoder: tuple, encoder: tuple, *rest) -> torch.Tensor:
        if path == "bf16 predictions":  # which bf16 holds exactly, as the leaves do then
            decoder, encoder = ([x.bfloat16() for x in pair] for pair in (decoder, encoder))
        return criterion.ours(decoder, encoder, *rest)

    if path == "PyTorch":
        monkeypatch.setattr(solver, "library_or_reason", lambda source: "none here")
    elif path == "bf16 predictions":
        for leaf in leaves:
            leaf.data = leaf.data.bfloat16().float()
    for function in (criterion.plain, ours):
        loss = function(decoder, encoder, targets, high_order)
        results.append((loss, torch.autograd.grad(loss, leaves)))
    (plain, plain_grads), (ours, our_grads) = results
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=0)
    for a, b in zip(our_grads, plain_grads, strict=True):
        tolerance = 4e-3 if path == "bf16 predictions" else 1e-5  # a bf16 gradient's own rounding
        assert (a - b).norm() <= tolerance * b.norm() + 1e-9


@pytest.mark.parametrize("high_order", [False, True])
def test_operators_and_synchronisations(high_order: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(criterion, "TOKENS", 300)
    decoder, encoder, targets = criterion.inputs(batch=2, objects=4)
    with OperatorCounter() as counter:
        criterion.ours(decoder, encoder, targets, high_order).backward()
    assert counter.totals()["syncs"] == 0
    assert counter.totals()["operators"] < 700


def test_assignment_costs_of_the_benchmark_are_solved_alike() -> None:
    row = assignment.time_row("one-to-many", 1500, 6, "high-order", 3, repeats=1)
    assert row["baseline_s"] > 0 and row["ours_s"] > 0
