"""What the counter sees, and the gate: what one training step of Rank-DETR R50 asks of a device."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import LazyConfig

from benchmarks import step
from detrex.utils.operators import OperatorCounter


def test_operators_of_forward_and_backward_without_views() -> None:
    x = torch.ones(6, requires_grad=True)
    with OperatorCounter() as counter:
        (x.view(2, 3) * 2).sum().backward()
    assert counter.operators == {"mul": 2, "sum": 1, "ones_like": 1}
    assert counter.totals() == {"operators": 4, "syncs": 0}
    (x * 2).sum()
    assert counter.totals()["operators"] == 4  # not outside


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.to("cpu"),
        lambda x: x.nonzero(),
        lambda x: torch.where(x > 1),
        lambda x: x[x > 1],
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: torch.repeat_interleave(x.int().flatten()),
    ],
)
def test_what_the_host_would_wait_for(waits) -> None:
    x = torch.arange(6.0).view(2, 3)
    with OperatorCounter() as counter:
        waits(x)
    assert counter.totals()["syncs"] == 1
    with OperatorCounter() as counter:
        torch.where(x > 1, x, 0).to(x.device)[torch.tensor([0, 1])].masked_fill_(x > 2, 0)
        torch.repeat_interleave(torch.tensor([1, 2]), output_size=3)
    assert counter.totals()["syncs"] == 0


def test_a_training_step_asks_little_of_the_device() -> None:
    cfg = LazyConfig.load(str(step.CONFIG))
    # Sizes do not change the counts; small ones are quicker. Depths and groups are the config's.
    cfg.model.update(num_queries_one2one=10, num_queries_one2many=20, k_one2many=2)
    cfg.model.transformer.two_stage_num_proposals = 30
    counter = step.count_ours(cfg)
    assert counter.totals()["syncs"] <= step.SYNC_GOAL, counter.syncs
    assert counter.totals()["operators"] <= step.OPERATOR_GOAL, counter.operators.most_common(20)
