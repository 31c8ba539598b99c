"""Both sides of the criterion benchmark compute the same loss and gradients."""

from __future__ import annotations

import pytest
import torch

from benchmarks import criterion


@pytest.mark.parametrize("high_order", [False, True])
def test_baseline_equals_the_shipped_criterion(
    high_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LAYERS", 2), ("CLASSES", 5), ("TOKENS", 50)):
        monkeypatch.setattr(criterion, name, value)
    decoder, encoder, targets = criterion.inputs(batch=2, objects=4)
    leaves = (*decoder, *encoder)
    results = []
    for function in (criterion.plain, criterion.ours):
        loss = function(decoder, encoder, targets, high_order)
        results.append((loss, torch.autograd.grad(loss, leaves)))
    (plain, plain_grads), (ours, our_grads) = results
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=0)
    for a, b in zip(our_grads, plain_grads, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm() + 1e-9
