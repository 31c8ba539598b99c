"""MS-DETR: candidates of each layer, their assignment and losses; nothing of them at inference."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from torchvision.ops import box_iou, generalized_box_iou

from detrex.inspect.analysis import flops
from detrex.layers import box_cxcywh_to_xyxy
from detrex.modeling.criterion import Predictions
from detrex.modeling.matcher import Matches, OneToManyMatcher
from detrex.modeling.queries import Queries, QueryGroup
from detrex.modeling.transformer import DeformableDecoder
from projects.deformable_detr.modeling import DeformableDETR
from tests.models import ROOT, image, shrink, tiny

CONFIG = "projects/ms_detr/configs/ms_detr_r50_12ep.py"
BATCH = [image(64, 96, 3, seed=1), image(80, 48, 2, seed=2)]
GROUP = QueryGroup("_one2many", size=12, copies=3, weight=0.5, one_to_many=True)


def problem(*counts: int, seed: int = 0) -> tuple[Predictions, list[dict]]:
    """Two layers of twelve predictions near the targets of each image."""
    generator = torch.Generator().manual_seed(seed)
    targets = [
        {
            "labels": torch.randint(0, 4, (n,), generator=generator),
            "boxes": torch.rand(n, 4, generator=generator) * 0.3 + 0.3,
        }
        for n in counts
    ]
    boxes = torch.rand(2, len(counts), 12, 4, generator=generator) * 0.3 + 0.3
    logits = torch.randn(2, len(counts), 12, 4, generator=generator)
    return Predictions(logits, boxes, GROUP), targets


def assigned(predictions: Predictions, targets: list[dict], threshold: float) -> Matches:
    matcher = OneToManyMatcher(k=3, iou_weight=0.7, threshold=threshold, keep_best=False)
    return matcher.match(predictions.logits, predictions.boxes, targets).wait()


def by_hand(predictions: Predictions, targets: list[dict], k: int, threshold: float) -> set:
    """(layer, image, query, target) of every match, one decision after the other."""
    pairs, first = set(), 0
    for b, target in enumerate(targets):
        for layer in range(2):
            wishes = {}
            for g, (label, gt) in enumerate(zip(target["labels"], target["boxes"], strict=True)):
                quality = []
                for q in range(12):
                    pair = (predictions.boxes[layer, b, q], gt)
                    iou = box_iou(*(box_cxcywh_to_xyxy(x[None]) for x in pair)).item()
                    score = predictions.logits[layer, b, q, label].sigmoid().item()
                    quality.append((0.3 * score + 0.7 * iou, q))
                for value, q in sorted(quality, reverse=True)[:k]:
                    if value >= threshold:
                        wishes.setdefault(q, []).append((value, g))
            pairs |= {(layer, b, q, first + max(gs)[1]) for q, gs in wishes.items()}
        first += len(target["boxes"])
    return pairs


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", [0.4, 0.7])
def test_assignment_is_that_of_plain_loops(seed: int, threshold: float) -> None:
    predictions, targets = problem(3, 0, 5, seed=seed)
    matches = assigned(predictions, targets, threshold)
    pairs = list(zip(*(x.tolist() for x in matches), strict=True))
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == by_hand(predictions, targets, 3, threshold)
    assert threshold > 0.4 or len(pairs) > 8


def test_nothing_is_assigned_without_targets() -> None:
    matches = assigned(*problem(0, 0), 0.4)
    assert [x.numel() for x in matches] == [0] * 4


def test_losses_are_divided_by_all_places_for_candidates() -> None:
    predictions, targets = problem(2, 3)
    criterion = tiny(CONFIG, num_classes=4, k_one2many=3).criterion
    found = criterion.losses_of_sets([predictions], targets)
    gt = torch.cat([t["boxes"] for t in targets])
    labels = torch.cat([t["labels"] for t in targets])
    matches = by_hand(predictions, targets, 3, 0.4)
    for layer, name in enumerate(("_0_one2many", "_one2many")):
        p = predictions.logits[layer].sigmoid()
        focal = -(0.75 * p**2 * (1 - p).log()).sum()
        l1 = giou = 0.0
        for _, b, q, g in (match for match in matches if match[0] == layer):
            s, box = p[b, q, labels[g]], predictions.boxes[layer, b, q]
            focal += 0.75 * s**2 * (1 - s).log() - 0.25 * (1 - s) ** 2 * s.log()
            l1 += (box - gt[g]).abs().sum()
            pair = (box_cxcywh_to_xyxy(x[None]) for x in (box, gt[g]))
            giou += 1 - generalized_box_iou(*pair)[0, 0]
        scale = 0.5 / (5 * 3)
        torch.testing.assert_close(found[f"loss_class{name}"], focal * scale)
        torch.testing.assert_close(found[f"loss_bbox{name}"], l1 * scale)
        torch.testing.assert_close(found[f"loss_giou{name}"], giou * scale, atol=1e-4, rtol=1e-4)


def prepared() -> tuple:
    model = tiny(CONFIG).train()
    for p in model.parameters():  # attention that looks somewhere, boxes that move
        if p.dim() > 1 and not p.any():
            torch.nn.init.normal_(p, std=0.05)
    memory = model.encode(model.preprocess(BATCH))
    queries = model.make_queries(memory, model.targets(BATCH))
    return model, memory, queries


@torch.no_grad()
def test_candidates_have_looked_but_not_compared_themselves() -> None:
    model, memory, queries = prepared()
    layer = model.transformer.decoder.layers[0]
    compare, look = layer.attentions
    x, place = queries.content[:, :10], queries.position[:, :10]
    points = memory.on_levels(queries.boxes[:, :10])
    seen = layer.norms[1](
        look(x, query_pos=place, reference_points=points, **memory.cross_attention_inputs())
    )
    plain = torch.nn.MultiheadAttention(256, 8, batch_first=True)
    plain.load_state_dict(compare.attn.state_dict())
    out = layer.norms[0](seen + plain(seen + place, seen + place, seen)[0])
    out = layer.norms[2](layer.ffns[0](out))
    outputs = model.decode(queries, memory)
    torch.testing.assert_close(outputs.logits[0][:, :10], model.class_embed[0](out))
    torch.testing.assert_close(outputs.logits[0][:, 10:], model.class_embed_one2many[0](seen))


@torch.no_grad()
def test_candidates_start_every_layer_anew() -> None:
    """The first layer's candidates reach nothing that follows."""
    model, memory, queries = prepared()
    before = model.decode(queries, memory)
    for head in (model.class_embed_one2many[0], model.bbox_embed_one2many[0].layers[-1]):
        head.weight += 0.1
    after = model.decode(queries, memory)
    for x, y in zip(before[:2], after[:2], strict=True):
        assert torch.equal(x[:, :, :10], y[:, :, :10])
        assert not torch.equal(x[0, :, 10:], y[0, :, 10:])
        assert torch.equal(x[1, :, 10:], y[1, :, 10:])


def test_after_a_layer_candidates_stand_where_the_queries_stand() -> None:
    decoder = tiny(CONFIG).transformer.decoder
    groups = (QueryGroup(size=2), QueryGroup("_one2many", size=2))
    queries = Queries(*torch.rand(2, 1, 4, 256), torch.rand(1, 4, 4), groups)
    moved = decoder.after_layer(0, queries, torch.zeros(1, 4, 5))
    for name in ("content", "position", "boxes"):
        primary = getattr(queries, name)[:, :2]
        assert torch.equal(getattr(moved, name), torch.cat([primary, primary], 1))


def test_inference_has_the_keys_and_the_cost_of_the_base() -> None:
    cfg = LazyConfig.load(str(ROOT / CONFIG)).model
    shrink(cfg)
    ours = instantiate(copy.deepcopy(cfg)).eval()
    cfg._target_, cfg.transformer.decoder._target_ = DeformableDETR, DeformableDecoder
    for name in ("k_one2many", "lambda_one2many"):
        cfg.pop(name)
    cfg.criterion.pop("one_to_many")
    base = instantiate(cfg).eval()
    extra = ("class_embed_one2many.", "bbox_embed_one2many.")
    keys = [key for key in ours.state_dict() if not key.startswith(extra)]
    assert keys == list(base.state_dict())
    assert flops(ours, BATCH[:1]) == flops(base, BATCH[:1]) > 0
    with torch.no_grad():
        before = ours(BATCH)[0]["instances"]
        for p in (*ours.class_embed_one2many.parameters(), *ours.bbox_embed_one2many.parameters()):
            p.fill_(torch.nan)
        after = ours(BATCH)[0]["instances"]
    assert torch.equal(before.scores, after.scores) and before.scores.isfinite().all()


@pytest.mark.parametrize("counts", [(3, 1), (0, 0)])
def test_every_parameter_gets_a_finite_gradient(counts: tuple[int, int]) -> None:
    model = tiny(CONFIG).train()
    losses = model([image(64, 96, n, seed=n) for n in counts])
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert {"loss_class_0_one2many", "loss_giou_one2many"} <= losses.keys()


def test_without_candidates_it_is_the_base() -> None:
    model = tiny(CONFIG, k_one2many=0).train()
    losses = model(BATCH)
    assert not any("one2many" in name for name in losses)
    queries = model.make_queries(model.encode(model.preprocess(BATCH)), [])
    assert queries.content.shape[1] == model.groups[0].size
