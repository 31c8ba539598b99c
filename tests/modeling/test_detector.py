"""The whole model: isolation of groups, padding, the switches, and the cases upstream fails on."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import pairwise_iou

from detrex.evaluation.alignment import with_layers
from tests.models import RANK_DETR, image, tiny

DINO = "projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py"

BATCH = [image(64, 96, 3, seed=1), image(80, 48, 2, seed=2)]


def predict(model: torch.nn.Module, batch=BATCH) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and boxes of all queries, layers and images of the batch."""
    with torch.no_grad():
        memory = model.encode(model.preprocess(batch))
        queries = model.make_queries(memory, None)
        return model.decode(queries, memory)[:2]


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """Random values where training starts from zeros, so that every part has an effect."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise, alpha=0.05 if parameter.dim() > 1 else 0.02)
    return model


@pytest.mark.parametrize(
    "config",
    [
        DINO,
        "projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py",
        "projects/anchor_detr/configs/anchor_detr_r50_50ep.py",
        "projects/detr/configs/detr_r50_300ep.py",
    ],
)
def test_nms_leaves_no_box_on_a_better_one_of_its_class(config: str) -> None:
    model, distinct = spread(tiny(config)).eval(), spread(tiny(config, nms_iou=0.4)).eval()
    with torch.no_grad():
        for name, bias in [*model.named_parameters(), *distinct.named_parameters()]:
            if "bbox_embed" in name and name.endswith("layers.2.bias"):
                bias[2:] += 2.0  # large boxes
        outputs = zip(model(BATCH), distinct(BATCH), with_layers(distinct)(BATCH), strict=True)
    for every, left, layers in outputs:
        every, left = every["instances"], left["instances"]
        boxes, classes = every.pred_boxes, every.pred_classes
        covers = (pairwise_iou(boxes, boxes) > 0.4) & (classes[:, None] == classes)
        stays: list[int] = []
        for i in every.scores.argsort(descending=True, stable=True).tolist():
            stays += [] if covers[i, stays].any() else [i]
        assert len(every) > len(stays)
        for x in (left, layers["instances"]):
            torch.testing.assert_close(x.scores, every.scores[stays])
            torch.testing.assert_close(x.pred_boxes.tensor, boxes.tensor[stays])
        assert len(layers["queries"].detections) == 2


@pytest.mark.parametrize("two_stage", [True, False])
def test_one_to_many_queries_do_not_reach_the_others(two_stage: bool) -> None:
    model = spread(tiny(as_two_stage=two_stage)).train()
    before = predict(model)
    with torch.no_grad():
        model.query_embedding.weight[10:] += 1.0
    after = predict(model)
    for x, y in zip(before, after, strict=True):
        assert torch.equal(x[:, :, :10], y[:, :, :10])
        assert not torch.equal(x[:, :, 10:], y[:, :, 10:])


def test_training_and_inference_agree_on_the_primary_queries() -> None:
    model = spread(tiny()).train()
    training = predict(model, BATCH[:1])
    inference = predict(model.eval(), BATCH[:1])
    for x, y in zip(training, inference, strict=True):
        torch.testing.assert_close(x[:, :, :10], y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        RANK_DETR,
        DINO,
        "projects/deformable_detr/configs/deformable_detr_r50_50ep.py",
        "projects/dab_deformable_detr/configs/dab_deformable_detr_r50_50ep.py",
        "projects/rt_detr/configs/rtdetr_r50vd_6x_coco.py",
        "projects/d_fine/configs/dfine_hgnetv2_s_coco.py",
        "projects/co_detr/configs/co_dino_5scale_r50_1x_coco.py",
        "projects/ms_detr/configs/ms_detr_r50_12ep.py",
        "projects/mr_detr_align/configs/deformable_detr_r50_two_stage_12ep_plusplus.py",
        "projects/dac_detr/configs/dac_detr_r50_12ep.py",
    ],
)
def test_detections_do_not_depend_on_the_batch(config: str) -> None:
    """The smallest image has fewer tokens than there are queries."""
    model = spread(tiny(config)).eval()
    batch = [*BATCH, image(8, 8, 0, seed=3), image(160, 320, 1, seed=4)]
    with torch.no_grad():
        together = model(batch)
        alone = [model([x])[0] for x in batch]
    for a, b in zip(together, alone, strict=True):
        a, b = a["instances"], b["instances"]
        torch.testing.assert_close(a.scores, b.scores, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, atol=1e-2, rtol=1e-4)


def test_losses_do_not_depend_on_the_order_of_the_batch() -> None:
    model = spread(tiny()).train()
    first, second = model(BATCH), model(BATCH[::-1])
    for name, loss in first.items():
        torch.testing.assert_close(second[name], loss, atol=1e-5, rtol=1e-4)


def test_rank_layer_sorts_and_fuses() -> None:
    decoder = tiny().transformer.decoder
    spread(decoder)
    from detrex.modeling.queries import Queries, QueryGroup

    content, position = torch.randn(1, 5, 256), torch.randn(1, 5, 256)
    groups = (QueryGroup(size=3), QueryGroup("_one2many", size=2))
    logits = torch.tensor([0.0, 2.0, 1.0, -1.0, 4.0])[None, :, None].expand(-1, -1, 5)
    queries = Queries(content, position, torch.rand(1, 5, 4), groups)
    result = decoder.after_layer(0, queries, logits)
    order = [1, 2, 0, 4, 3]
    rank = decoder.pre_racq_trans[0](decoder.rank_aware_content_query[0].weight[:5])
    expected = decoder.post_racq_trans[0](torch.cat([content[0, order], rank], 1))
    torch.testing.assert_close(result.content[0], expected)
    assert torch.equal(result.position[0], position[0, order])
    assert torch.equal(result.boxes[0], queries.boxes[0, order])


def test_class_bias_is_indexed_by_rank() -> None:
    model = spread(tiny()).eval()
    with torch.no_grad():
        for table in model.rank_adaptive_classhead_emb:
            table.weight.zero_()
        plain = predict(model)[0]
        for layer, table in enumerate(model.rank_adaptive_classhead_emb):
            table.weight[4, 2] = 1.0 + layer
        biased = predict(model)[0]
    expected = torch.zeros_like(plain)
    expected[0, :, 4, 2], expected[1, :, 4, 2] = 1.0, 2.0
    torch.testing.assert_close(biased - plain, expected, atol=1e-5, rtol=0)


CASES = {
    "single stage with rank parts": dict(as_two_stage=False),
    "single stage without refinement": dict(as_two_stage=False, with_box_refine=False),
    "two stages without refinement": dict(with_box_refine=False),
    "last layer only, with one-to-many": dict(aux_loss=False),
    "no rank parts": dict(
        rank_adaptive_classhead=False, transformer__decoder__query_rank_layer=False
    ),
    "activation checkpointing": dict(transformer__decoder__use_checkpoint=True),
}


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES.keys())
def test_every_switch_trains_and_evaluates(overrides: dict) -> None:
    model = tiny(**overrides).train()
    losses = model(BATCH)
    layers = 1 if overrides.get("aux_loss") is False else 2
    two_stage = overrides.get("as_two_stage", True)
    assert len(losses) == 3 * (2 * layers + two_stage)
    sum(losses.values()).backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad and p.grad is not None]
    assert all(g.isfinite().all() for g in gradients)
    instances = model.eval()(BATCH)[0]["instances"]
    assert len(instances) <= 50 and instances.scores.isfinite().all()


def test_crowded_empty_and_all_empty_batches_train() -> None:
    model = tiny().train()
    for counts in ((40, 0), (0, 0)):
        losses = model([image(64, 64, count, seed=i) for i, count in enumerate(counts)])
        sum(losses.values()).backward()
        assert all(loss.isfinite() for loss in losses.values())
        # every trainable parameter takes part, or data-parallel training would hang
        missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not missing
        model.zero_grad()


@pytest.mark.parametrize("config", [RANK_DETR, DINO])
def test_images_with_fewer_tokens_than_queries(config: str) -> None:
    model = tiny(config).train()
    small = [image(16, 16, 1)]  # 4 + 1 + 1 + 1 tokens, 10 or 30 queries
    assert all(loss.isfinite() for loss in model(small).values())
    with torch.no_grad():
        assert len(model.eval()(small)[0]["instances"]) > 0


def test_bf16_autocast_gives_close_losses_in_fp32() -> None:
    model = tiny().train()
    exact = model(BATCH)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(BATCH)
    assert all(loss.dtype == torch.float32 for loss in mixed.values())
    assert sum(mixed.values()).item() == pytest.approx(sum(exact.values()).item(), rel=0.1)


def test_dinos_contents_may_be_the_chosen_proposals() -> None:
    model = tiny(DINO, transformer__learnt_init_query=False).eval()
    with torch.no_grad():
        memory = model.encode(model.preprocess(BATCH))
        queries = model.make_queries(memory, None)
        proposals = model.transformer.propose(memory, model.class_embed[-1])
    best = proposals.top(10, proposals.logits.amax(-1))
    assert torch.equal(queries.content, best.tokens)
    assert not any("tgt_embed" in name for name in model.state_dict())
