"""DDQ's distinct queries on DINO and on Rank-DETR; what is distinct is compared with the released
code in tests/parity/test_distinct_queries.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detrex.layers.attention import Rows
from detrex.modeling.criterion import Predictions
from detrex.modeling.distinct import count_distinct, distinct, distinct_first
from detrex.modeling.queries import QueryGroup
from projects.ddq_detr.modeling.dense_branch import is_hidden
from projects.ddq_detr.modeling.distinct_queries import HIDDEN, DistinctQueries
from tests.models import image, tiny

CONFIG = "projects/ddq_detr/configs/ddq_detr_r50_4scale_12ep.py"
RANK = "projects/ddq_detr/configs/ddq_rank_detr_r50_two_stage_12ep.py"
BATCH = [image(64, 96, 3, seed=1), image(80, 48, 2, seed=2)]


def awake(config: str = CONFIG, **options) -> torch.nn.Module:
    model = tiny(config, transformer__decoder__as_released=False, **options)
    for p in model.parameters():
        if p.dim() > 1 and not p.any():
            torch.nn.init.normal_(p, std=0.05)
    return model


@torch.no_grad()
def still(model: torch.nn.Module) -> None:
    """Boxes stay where they are."""
    for head in model.bbox_embed:
        head.layers[-1].weight.zero_()
        head.layers[-1].bias.zero_()


@torch.no_grad()
@pytest.mark.parametrize(
    ("config", "options"),
    [
        (CONFIG, dict(num_queries=30)),
        (RANK, dict(num_queries_one2one=30, transformer__two_stage_num_proposals=50)),
    ],
    ids=["ddq", "rank"],
)
def test_more_of_the_proposals_are_distinct_than_without(config: str, options: dict) -> None:
    count = []
    for threshold in (0.1, 1.0):
        model = awake(config, distinct_iou=threshold, **options).eval()
        boxes = model.make_queries(model.encode(model.preprocess(BATCH)), None).boxes
        every = torch.ones(boxes.shape[:2], dtype=torch.bool)
        falling = torch.arange(boxes.shape[1], 0, -1.0).expand(every.shape)
        count.append(distinct(falling, boxes, 0.1, every).sum())
    assert count[0] > count[1]


def greedy(scores: Tensor, boxes: Tensor, threshold: float, counted: Tensor) -> list[int]:
    """NMS of one image, pair by pair."""
    chosen = []
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    for q in scores.argsort(descending=True).tolist():
        overlaps = []
        for other in chosen:
            sides = torch.minimum(high[q], high[other]) - torch.maximum(low[q], low[other])
            inter = sides.clamp(min=0).prod()
            overlaps.append(inter / (boxes[q, 2:].prod() + boxes[other, 2:].prod() - inter))
        if counted[q] and all(iou <= threshold for iou in overlaps):
            chosen.append(q)
    return chosen


def test_images_do_not_suppress_each_other() -> None:
    """18 images: more than one call of NMS takes."""
    torch.manual_seed(0)
    scores, counted = torch.randn(18, 12), torch.rand(18, 12) < 0.8
    boxes = torch.rand(18, 12, 4)
    chosen = distinct(scores, boxes, 0.2, counted)
    rows = zip(scores, boxes, counted, strict=True)
    expected = [sorted(greedy(score, box, 0.2, counts)) for score, box, counts in rows]
    assert [row.nonzero().flatten().tolist() for row in chosen] == expected
    assert len({len(row) for row in expected}) > 2


@pytest.mark.parametrize("count", [2, 5, 15])
def test_the_worst_proposals_are_compared_where_the_best_are_alike(count: int) -> None:
    """Of 80 proposals 40 crowd at the best one, so that 4 * count are too few for count = 5."""
    torch.manual_seed(0)
    boxes = torch.rand(2, 80, 4)
    boxes[:, :40] = torch.tensor([0.5, 0.5, 0.2, 0.2]) + 0.01 * torch.rand(2, 40, 4)
    scores = torch.arange(80, 0, -1.0).expand(2, -1)
    chosen = distinct_first(scores, boxes, 0.4, count).topk(count).indices
    everyone = torch.ones(80, dtype=torch.bool)
    for row, score, box in zip(chosen, scores, boxes, strict=True):
        assert row.tolist() == greedy(score, box, 0.4, everyone)[:count]


@torch.no_grad()
def test_what_does_not_count_predicts_nothing_and_sees_only_what_counts() -> None:
    """One box for all: after the first layer one query is left."""
    model = awake(distinct_iou=0.8).train()
    memory = model.encode(model.preprocess(BATCH))
    queries = model.make_queries(memory, model.targets(BATCH))
    queries.boxes[:, :10] = torch.tensor([0.5, 0.5, 0.3, 0.3])
    still(model)
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


def test_what_counts_moves_with_the_queries() -> None:
    torch.manual_seed(0)
    counted, mask = torch.rand(2, 4) < 0.5, torch.rand(2, 4, 4) < 0.5
    groups = QueryGroup(size=4), QueryGroup("_dn", size=2, ranked=False)
    content = torch.rand(2, 6, 3)
    queries = DistinctQueries(content, None, content, groups, counted=counted, mask=mask)
    order = torch.tensor([[2, 0, 3, 1, 4, 5], [1, 3, 0, 2, 4, 5]])
    moved = queries.reorder(order)
    for b in range(2):
        for i, old in enumerate(order[b].tolist()):
            assert moved.content[b, i].equal(content[b, old])
            if i < 4:
                assert moved.counted[b, i] == counted[b, old]
                assert moved.mask[b, i].tolist() == mask[b, old, order[b, :4]].tolist()


@torch.no_grad()
def test_queries_that_do_not_count_rank_last() -> None:
    """On Rank-DETR, whose decoder sorts its queries by score and adds a bias to scores."""
    model = awake(RANK).train()
    for table in model.rank_adaptive_classhead_emb:
        table.weight.fill_(3.0)
    still(model)
    memory, decoder, seen = model.encode(model.preprocess(BATCH)), model.transformer.decoder, []
    queries = model.make_queries(memory, model.targets(BATCH))
    queries.boxes[:, 2:6] = torch.tensor([0.5, 0.5, 0.3, 0.3])
    after = decoder.after_layer
    decoder.after_layer = lambda *inputs: seen.append(after(*inputs)) or seen[-1]
    outputs = model.decode(queries, memory)
    (queries,) = seen
    hidden = is_hidden(outputs.logits[1, :, :10]).all(-1)
    assert hidden.any() and hidden.equal(~queries.counted)
    later = decoder.after_layer(0, queries, outputs.logits[1])
    assert later.counted.int().diff(dim=1).max() <= 0  # none that counts after one that does not


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_hidden_queries_have_no_loss_and_no_match(shift: float) -> None:
    """``shift``: a bias that is added to all logits afterwards."""
    model = awake().train()
    criterion, targets = model.criterion, model.targets(BATCH)
    memory = model.encode(model.preprocess(BATCH))
    outputs, queries = model.run(memory, targets)
    (primary, *_) = model.supervised_sets(outputs, queries.groups)
    logits = torch.randn(primary.logits.shape)
    logits[1, :, 3:] = HIDDEN
    primary.logits = (logits + shift).requires_grad_()
    losses = criterion.losses_of_sets([primary], targets)
    losses["loss_class"].backward()
    gradient = primary.logits.grad
    assert not gradient[1, :, 3:].any() and gradient[1, :, :3].any()
    (problem,) = [criterion.problems(primary, targets)]
    assert all((cost[1, 3:] == 1e5).all() and (cost[0] < 1e5).all() for cost in problem.costs)
    assert is_hidden((logits + shift).bfloat16()).equal(is_hidden(primary.logits))


def test_more_targets_than_queries_that_count() -> None:
    """What is matched with a hidden query adds nothing to any loss."""
    criterion, targets = awake().criterion, awake().targets(BATCH)
    torch.manual_seed(0)
    logits, boxes = torch.randn(1, 2, 10, 5), torch.rand(1, 2, 10, 4)
    logits[:, :, 1:] = HIDDEN
    logits, boxes = logits.requires_grad_(), boxes.requires_grad_()
    predictions = Predictions(logits, boxes, QueryGroup(size=10))
    losses = criterion.losses_of_sets([predictions], targets)
    sum(losses.values()).backward()
    assert sum(losses.values()) < 20
    assert boxes.grad[:, :, 0].any() and not boxes.grad[:, :, 1:].any()
    assert not logits.grad[:, :, 1:].any()


@torch.no_grad()
def test_detections_are_of_queries_that_count() -> None:
    model = awake(distinct_iou=0.05, num_queries=30).eval()
    outputs, _ = model.run(model.encode(model.preprocess(BATCH)))
    hidden = (outputs.logits[-1] == HIDDEN).all(-1)
    counts = (~hidden).sum(1) * outputs.logits.shape[-1]
    assert hidden.any() and counts[0] != counts[1]
    for x, result, count in zip(BATCH, model(BATCH), counts.tolist(), strict=True):
        scores = result["instances"].scores
        assert int((scores > 0).sum()) <= count
        alone = model([x])[0]["instances"].scores
        torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-6)


class Chosen(torch.nn.Module):
    """Logits (B, N, K) and boxes (B, N, 4) to what is distinct in front of and between layers."""

    def forward(self, logits: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores = distinct_first(logits.amax(-1), boxes, 0.5, logits.shape[1])
        counted, mask = count_distinct(logits, boxes, scores > -100, 0.3)
        return scores, counted, mask


def test_an_exported_graph_chooses_the_same() -> None:
    """Of any number of images; a whole DDQ-DETR is exported by tests/nightly/exports.py."""
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    example = torch.randn(2, 30, 4), torch.rand(2, 30, 4)
    program = torch.export.export(Chosen(), example, dynamic_shapes=(sizes, sizes))
    model = torch.onnx.export(program, dynamo=True, opset_version=18, verbose=False).model_proto
    session = runtime.InferenceSession(model.SerializeToString())
    names = [x.name for x in session.get_inputs()]
    torch.manual_seed(0)
    for shape in ((2, 30), (1, 50), (20, 40)):
        inputs = torch.randn(*shape, 4), torch.rand(*shape, 4)
        feed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        expected = Chosen()(*inputs)
        assert not expected[1].all()
        for value, reference in zip(session.run(None, feed), expected, strict=True):
            assert torch.from_numpy(value).equal(reference)
