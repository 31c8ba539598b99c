"""DDQ's distinct queries on DINO; what is distinct is compared with the released code in
tests/parity/test_distinct_queries.py."""

from __future__ import annotations

import pytest
import torch

from detrex.layers.attention import Rows
from detrex.modeling.distinct import distinct
from projects.ddq_detr.modeling.ddq_detr import HIDDEN
from tests.models import image, tiny

CONFIG = "projects/ddq_detr/configs/ddq_detr_r50_4scale_12ep.py"
BATCH = [image(64, 96, 3, seed=1), image(80, 48, 2, seed=2)]


def awake(**options) -> torch.nn.Module:
    model = tiny(CONFIG, transformer__decoder__as_released=False, **options)
    for p in model.parameters():
        if p.dim() > 1 and not p.any():
            torch.nn.init.normal_(p, std=0.05)
    return model


@torch.no_grad()
def test_more_of_the_proposals_are_distinct_than_dinos() -> None:
    options = dict(num_queries=30)
    model = awake(distinct_iou=0.1, **options).eval()
    memory = model.encode(model.preprocess(BATCH))
    plain = tiny("projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py", **options).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    ours, dinos = (m.make_queries(memory, None).boxes for m in (model, plain))
    every = torch.ones(ours.shape[:2], dtype=torch.bool)
    falling = torch.arange(30, 0, -1.0).expand(every.shape)
    count = [distinct(falling, boxes, 0.1, every).sum() for boxes in (ours, dinos)]
    assert count[0] > count[1]


@torch.no_grad()
def test_what_does_not_count_predicts_nothing_and_sees_only_what_counts() -> None:
    """One box for all: after the first layer one query is left."""
    model = awake(distinct_iou=0.8).train()
    memory = model.encode(model.preprocess(BATCH))
    queries = model.make_queries(memory, model.targets(BATCH))
    queries.boxes[:, :10] = torch.tensor([0.5, 0.5, 0.3, 0.3])
    for head in model.bbox_embed:
        head.layers[-1].weight.zero_()
        head.layers[-1].bias.zero_()
    outputs = model.decode(queries, memory)
    hidden = (outputs.logits == HIDDEN).all(-1)
    assert not hidden[0].any() and not hidden[:, :, 10:].any()
    assert (hidden[1, :, :10].sum(1) == 9).all()
    decoder, rows = model.transformer.decoder, (Rows(10), Rows(outputs.logits.shape[2] - 10))
    queries = decoder.after_layer(0, queries, outputs.logits[0])
    first = decoder.attention_rows(1, queries, rows)[0].mask[0, 0]
    winner = int(queries.counted[0].nonzero())
    loser = (winner + 1) % 10
    assert first[loser].nonzero().flatten().tolist() == [q for q in range(10) if q != winner]
    assert not first[winner].any()


def test_hidden_queries_have_no_loss_and_no_match() -> None:
    model = awake().train()
    criterion, targets = model.criterion, model.targets(BATCH)
    memory = model.encode(model.preprocess(BATCH))
    outputs, queries = model.run(memory, targets)
    (primary, *_) = model.supervised_sets(outputs, queries.groups)
    logits = torch.randn(primary.logits.shape)
    logits[1, :, 3:] = HIDDEN
    primary.logits = logits.requires_grad_()
    losses = criterion.losses_of_sets([primary], targets)
    losses["loss_class"].backward()
    assert not logits.grad[1, :, 3:].any() and logits.grad[1, :, :3].any()
    (matches,) = [criterion.problems(primary, targets)]
    assert all((cost[1, 3:] == 1e5).all() and (cost[0] < 1e5).all() for cost in matches.costs)


@pytest.mark.parametrize("counts", [(3, 1), (2, 0), (0, 0)])
def test_every_parameter_gets_a_finite_gradient(counts: tuple[int, int]) -> None:
    model = awake().train()
    losses = model([image(64, 96, n, seed=n) for n in counts])
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@torch.no_grad()
def test_detections_are_of_queries_that_count() -> None:
    model = awake(distinct_iou=0.05, num_queries=30).eval()
    outputs, _ = model.run(model.encode(model.preprocess(BATCH)))
    hidden = (outputs.logits[-1] == HIDDEN).all(-1)
    counts = (~hidden).sum(1) * outputs.logits.shape[-1]
    assert hidden.any()
    for result, count in zip(model(BATCH), counts.tolist(), strict=True):
        assert int((result["instances"].scores > 0).sum()) <= count
