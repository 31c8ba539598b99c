"""Co-DETR: assignments and losses of its heads, queries of positives, inference of the base."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torchvision.ops import box_iou as plain_iou
from torchvision.ops import generalized_box_iou, roi_align

from detrex.layers import box_cxcywh_to_xyxy
from detrex.modeling.analysis import flops
from detrex.modeling.criterion import Predictions
from projects.co_detr.modeling import ATSSHead, FasterRCNNHead, PositiveQueries, atss_assign
from projects.co_detr.modeling.assigned import Assigned, choose, pixel_instances
from projects.deformable_detr.modeling import DeformableDETR
from projects.dino.modeling import DINO
from tests.models import ROOT, image, shrink, tiny

DEFORMABLE = "projects/co_detr/configs/co_deformable_detr_r50_1x_coco.py"
DINO_5SCALE = "projects/co_detr/configs/co_dino_5scale_r50_1x_coco.py"
SAMPLE = "projects/co_detr/configs/co_dino_efficientnet_lite0_sample_data.py"
BASES = {DEFORMABLE: DeformableDETR, DINO_5SCALE: DINO}
BATCH = [image(64, 96, 3, seed=1), image(80, 48, 2, seed=2)]
STRIDES = (8, 16)
GT = torch.tensor([[4.0, 6.0, 40.0, 30.0], [20.0, 10.0, 60.0, 60.0], [1.0, 1.0, 9.0, 9.0]])


def grid(height: int, width: int, stride: int, side: float) -> Tensor:
    """Square anchors (S, 4) around the centres of cells, row by row."""
    centres = [
        ((x + 0.5) * stride, (y + 0.5) * stride) for y in range(height) for x in range(width)
    ]
    return torch.tensor(
        [[x - side / 2, y - side / 2, x + side / 2, y + side / 2] for x, y in centres]
    )


def instances(boxes: Tensor, labels: list[int]) -> Instances:
    index = torch.arange(len(boxes))
    return Instances(
        (64, 64), gt_boxes=Boxes(boxes), gt_classes=torch.tensor(labels).long(), gt_index=index
    )


def by_hand(gt: list[list[float]], levels: list[list[list[float]]], k: int) -> list[int]:
    """Algorithm 1 of ATSS, anchor by anchor."""
    anchors = [a for level in levels for a in level]

    def centre(b: list[float]) -> tuple[float, float]:
        return (b[0] + b[2]) / 2, (b[1] + b[3]) / 2

    def iou(a: list[float], b: list[float]) -> float:
        return plain_iou(torch.tensor([a]), torch.tensor([b])).item()

    owner, best = [-1] * len(anchors), [0.0] * len(anchors)
    for g, box in enumerate(gt):
        candidates, first = [], 0
        for level in levels:
            near = sorted(range(len(level)), key=lambda i: math.dist(centre(level[i]), centre(box)))
            candidates += [first + i for i in near[:k]]
            first += len(level)
        ious = [iou(anchors[i], box) for i in candidates]
        mean = sum(ious) / len(ious)
        std = (sum((x - mean) ** 2 for x in ious) / (len(ious) - 1)) ** 0.5
        for i, value in zip(candidates, ious, strict=True):
            x, y = centre(anchors[i])
            inside = box[0] < x < box[2] and box[1] < y < box[3]
            if value >= mean + std and inside and value > best[i]:
                owner[i], best[i] = g, value
    return owner


@pytest.mark.parametrize("seed", range(4))
def test_atss_assigns_as_algorithm_1_does_by_hand(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(6, 2, generator=generator) * 50
    gt = torch.cat([low, low + 6 + torch.rand(6, 2, generator=generator) * 50], 1)
    levels = [grid(8, 8, 8, 61.0), grid(4, 4, 16, 101.0), grid(2, 2, 32, 203.0)]
    expected = by_hand(gt.tolist(), [level.tolist() for level in levels], k=5)
    assert atss_assign(gt, levels, topk=5).tolist() == expected
    assert len(set(expected)) > 3
    assert (atss_assign(gt[:0], levels) == -1).all()


def test_atss_losses_are_the_plain_formulas() -> None:
    torch.manual_seed(0)
    head = ATSSHead(3, 32, STRIDES)
    anchors = torch.cat([grid(4, 4, 16, 64.0)])
    gt = [instances(GT[:2], [2, 0]), instances(GT[:0], [])]
    target = torch.full((2, 16), -1)
    target[0, 5], target[0, 6], target[0, 10] = 0, 1, 1
    logits, deltas, centre = (
        torch.randn(2, 16, 3),
        torch.randn(2, 16, 4) * 0.3,
        torch.randn(2, 16, 1),
    )
    found = head.losses(logits, deltas, centre, anchors, target, gt)
    focal = giou = bce = weight = 0.0
    for b in range(2):
        for i in range(16):
            g = target[b, i].item()
            for k, x in enumerate(logits[b, i]):
                p = x.sigmoid()
                positive = g >= 0 and gt[b].gt_classes[g] == k
                focal -= 0.25 * (1 - p) ** 2 * p.log() if positive else 0.75 * p**2 * (1 - p).log()
            if g < 0:
                continue
            x0, y0, x1, y1 = anchors[i].tolist()
            cx, cy, side = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0
            dx, dy, dw, dh = (deltas[b, i] / torch.tensor([10, 10, 5, 5])).tolist()
            w, h = side * math.exp(dw), side * math.exp(dh)
            cx2, cy2 = cx + dx * side, cy + dy * side
            box = torch.tensor([[cx2 - w / 2, cy2 - h / 2, cx2 + w / 2, cy2 + h / 2]])
            left, top, right, bottom = cx - GT[g, 0], cy - GT[g, 1], GT[g, 2] - cx, GT[g, 3] - cy
            c = min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)
            c = c**0.5
            giou += c * (1 - generalized_box_iou(box, GT[g : g + 1])[0, 0])
            s = centre[b, i, 0].sigmoid()
            bce -= c * s.log() + (1 - c) * (1 - s).log()
            weight += c
    torch.testing.assert_close(found["loss_atss_cls"], focal / 3)
    torch.testing.assert_close(found["loss_atss_box"], 2 * giou / max(weight, 1))
    torch.testing.assert_close(found["loss_atss_centre"], bce / 3)


def test_atss_hands_over_anchors_with_their_tokens() -> None:
    head = ATSSHead(3, 32, STRIDES)
    levels = [torch.randn(2, 32, 8, 8), torch.randn(2, 32, 4, 4)]
    gt = [instances(GT[:1], [1]), instances(GT[1:], [0, 2])]
    gt[1].gt_index += 1
    losses, candidates = head(levels, gt)
    anchors = [grid(8, 8, 8, 64.0), grid(4, 4, 16, 128.0)]
    for b, (own, first) in enumerate(zip(candidates, (0, 1), strict=True)):
        torch.testing.assert_close(own.boxes, torch.cat(anchors))
        expected = atss_assign(gt[b].gt_boxes.tensor, anchors)
        assert own.target.tolist() == [-1 if t < 0 else t + first for t in expected.tolist()]
        assert torch.equal(own.features[64 + 4 * 2 + 3], levels[1][b, :, 2, 3])
    assert set(losses) == {"loss_atss_cls", "loss_atss_box", "loss_atss_centre"}


def test_faster_rcnn_hands_over_its_samples_with_pooled_features() -> None:
    torch.manual_seed(0)
    head = FasterRCNNHead(3, 16, (8, 16, 32))
    levels = [torch.randn(2, 16, 64 // s, 64 // s) for s in (8, 16, 32)]
    gt = [instances(GT, [2, 0, 1]), instances(GT[:0], [])]
    losses, (own, none) = head(levels, gt)
    assert {"loss_rpn_cls", "loss_rpn_loc", "loss_rcnn_cls", "loss_rcnn_box_reg"} == set(losses)
    assert (none.target == -1).all() and len(none.target) > 0
    iou, best = plain_iou(own.boxes, GT).max(1)
    assert torch.equal(own.target, best.where(iou >= 0.5, -1))
    assert {0, 1, 2} <= set(own.target.tolist())  # the targets themselves are proposals
    # Boxes of less than 224 pixels are pooled from the level of stride 8 (FPN, eq. 1).
    regions = torch.cat([torch.zeros(len(own.boxes), 1), own.boxes], 1)
    pooled = roi_align(levels[0], regions, 7, 1 / 8, 0, True).mean((2, 3))
    torch.testing.assert_close(own.features, pooled)


def test_targets_become_pixels_with_a_number_of_their_own() -> None:
    targets = [
        {
            "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.4]]),
            "labels": torch.tensor([3]),
            "size": (50, 100),
        },
        {
            "boxes": torch.tensor([[0.5, 0.25, 1.0, 0.5]]),
            "labels": torch.tensor([1]),
            "size": (40, 80),
        },
    ]
    first, second = pixel_instances(targets)
    torch.testing.assert_close(first.gt_boxes.tensor, torch.tensor([[40.0, 15.0, 60.0, 35.0]]))
    torch.testing.assert_close(second.gt_boxes.tensor, torch.tensor([[0.0, 0.0, 80.0, 20.0]]))
    assert (first.gt_index.item(), second.gt_index.item()) == (0, 1)


@pytest.mark.parametrize(("limit", "expected"), [(300, 4), (3, 3)])
def test_all_images_get_as_many_queries_positives_first(limit: int, expected: int) -> None:
    torch.manual_seed(0)
    targets = [torch.tensor([-1, 2, -1, 0, 1, 1, -1]), torch.tensor([-1, -1, 3, -1, -1])]
    candidates = [Assigned(torch.rand(len(t), 4), torch.rand(len(t), 8), t) for t in targets]
    chosen = choose(candidates, limit)
    assert chosen.target.shape == (2, expected)
    assert (chosen.target[0] >= 0).all()
    assert chosen.target[1].tolist() == [3] + [-1] * (expected - 1)
    for image_, own in enumerate(candidates):
        for query in range(expected):
            row = (own.boxes == chosen.boxes[image_, query]).all(1).nonzero().item()
            assert torch.equal(own.features[row], chosen.features[image_, query])
            assert own.target[row] == chosen.target[image_, query]


@cache
def made(config: str) -> tuple:
    """A model in training, its memory, targets, queries and groups by name."""
    model = tiny(config).train()
    with torch.no_grad():
        memory = model.encode(model.preprocess(BATCH))
        targets = model.prepare_targets(BATCH)
        queries, _ = model.make_queries(memory, targets)
    return model, memory, targets, queries, {group.name: group for group in queries.groups}


@pytest.mark.parametrize("config", BASES)
def test_a_positive_query_answers_for_the_box_it_was_assigned(config: str) -> None:
    _, _, targets, queries, groups = made(config)
    boxes = torch.cat([t["boxes"] for t in targets])
    start = (
        sum(group.size for group in queries.groups) - groups["_rcnn"].size - groups["_atss"].size
    )
    assign = groups["_rcnn"].assign
    for b, query, target in zip(assign.image, assign.query, assign.target, strict=True):
        assert (target < 3) == (b == 0)
        pair = [
            box_cxcywh_to_xyxy(x[None]) for x in (queries.boxes[b, start + query], boxes[target])
        ]
        assert plain_iou(*pair) >= 0.5 - 1e-4
    assert len(assign.image) == round(groups["_rcnn"].copies * 5) > 0


@pytest.mark.parametrize("config", BASES)
def test_queries_of_a_head_see_only_each_other(config: str) -> None:
    model, memory, _, queries, groups = made(config)
    atss = groups["_atss"].size
    with torch.no_grad():
        before = model.decode(queries, memory)
        content = queries.content.clone()
        content[:, -atss:] += 1.0
        after = model.decode(replace(queries, content=content), memory)
    assert torch.equal(before.logits[:, :, :-atss], after.logits[:, :, :-atss])
    assert not torch.equal(before.logits[:, :, -atss:], after.logits[:, :, -atss:])


def test_content_is_the_sum_of_place_and_feature() -> None:
    made_by = PositiveQueries(256, with_position=False)
    boxes, features = torch.rand(1, 3, 4), torch.randn(1, 3, 256)
    content = made_by(boxes, features, None).content
    index = torch.arange(128) // 2 * 2
    angle = boxes[..., None] * 2 * math.pi / 10000 ** (index / 128)
    sine = torch.where(torch.arange(128) % 2 == 0, angle.sin(), angle.cos()).flatten(2)

    def linear_norm(layers: nn.Sequential, x: Tensor) -> Tensor:
        x = x @ layers[0].weight.T + layers[0].bias
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return x * layers[1].weight + layers[1].bias

    expected = linear_norm(made_by.place, sine) + linear_norm(made_by.feature, features)
    torch.testing.assert_close(content, expected, atol=1e-5, rtol=1e-5)


def test_losses_of_positives_are_divided_by_their_number() -> None:
    model, _, targets, _, groups = made(DEFORMABLE)
    group = groups["_atss"]
    logits, boxes = torch.randn(1, 2, group.size, 5), torch.rand(1, 2, group.size, 4) * 0.4 + 0.3
    found = model.criterion.supervise([Predictions(logits, boxes, group)], targets)
    gt = torch.cat([t["boxes"] for t in targets])
    labels = torch.cat([t["labels"] for t in targets])
    p = logits[0].sigmoid()
    focal = -(0.75 * p**2 * (1 - p).log()).sum()
    l1 = giou = 0.0
    for b, query, target in zip(*group.assign[1:], strict=True):
        s = p[b, query, labels[target]]
        focal += 0.75 * s**2 * (1 - s).log() - 0.25 * (1 - s) ** 2 * s.log()
        l1 += (boxes[0, b, query] - gt[target]).abs().sum()
        pair = [box_cxcywh_to_xyxy(x[None]) for x in (boxes[0, b, query], gt[target])]
        giou += 1 - generalized_box_iou(*pair)[0, 0]
    count = len(group.assign.image)
    assert count > 5  # more than one positive for a target
    torch.testing.assert_close(found["loss_class_atss"], focal / count)
    torch.testing.assert_close(found["loss_bbox_atss"], l1 / count)
    torch.testing.assert_close(found["loss_giou_atss"], giou / count, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", BASES)
def test_inference_is_that_of_the_base(config: str) -> None:
    """Same keys, same detections, same FLOPs; no key of the heads is read."""
    cfg = LazyConfig.load(str(ROOT / config)).model
    shrink(cfg)
    ours = instantiate(copy.deepcopy(cfg)).eval()
    cfg._target_ = BASES[config]
    cfg.pop("auxiliary")
    base = instantiate(cfg).eval()
    shared = {k: v for k, v in ours.state_dict().items() if not k.startswith("auxiliary.")}
    assert list(shared) == list(base.state_dict())
    base.load_state_dict(shared)
    with torch.no_grad():
        for parameter in ours.auxiliary.parameters():
            parameter.fill_(torch.nan)
        for mine, other in zip(ours(BATCH), base(BATCH), strict=True):
            for field, value in mine["instances"].get_fields().items():
                expected = other["instances"].get(field)
                same = value.tensor.equal(expected.tensor) if field == "pred_boxes" else None
                assert value.equal(expected) if same is None else same
    assert flops(ours, BATCH[:1]) == flops(base, BATCH[:1]) > 0


@pytest.mark.parametrize("config", BASES)
@pytest.mark.parametrize("counts", [(3, 1), (0, 0)])
def test_every_parameter_gets_a_finite_gradient(config: str, counts: tuple[int, int]) -> None:
    model = tiny(config).train()
    losses = model([image(64, 96, n, seed=n) for n in counts])
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert not name.startswith("auxiliary") or not any(counts) or parameter.grad.any(), name


def test_the_heads_losses_count_once_per_decoder_layer() -> None:
    torch.manual_seed(0)
    model, memory, targets, _, _ = made(SAMPLE)
    torch.manual_seed(1)
    rcnn, atss = model.auxiliary(memory, targets)
    torch.manual_seed(1)
    levels, gt = model.auxiliary.levels(memory), pixel_instances(targets)
    assert [tuple(level.shape[2:]) for level in levels] == [*memory.shapes, (2, 2)]
    for queries, head in ((rcnn, "rcnn"), (atss, "atss")):
        if head == "atss":
            choose([Assigned(torch.rand(2, 4), torch.rand(2, 1), torch.tensor([0, 1]))])
        plain = model.auxiliary.heads[head](levels, gt)[0]
        for name, value in plain.items():
            torch.testing.assert_close(queries.losses[name], 2.0 * 2 * value)


def test_the_loss_falls() -> None:
    model = tiny(SAMPLE).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    totals = []
    for step in range(5):
        torch.manual_seed(step)
        losses = model(BATCH)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.9 * totals[0]
