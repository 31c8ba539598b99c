"""What holds for every method that reads one feature level, and what each of them adds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models import image, tiny

CONFIGS = {
    "detr": "projects/detr/configs/detr_r50_300ep.py",
    "conditional": "projects/conditional_detr/configs/conditional_detr_r50_50ep.py",
    "group": "projects/group_detr/configs/group_detr_r50_50ep.py",
    "dab": "projects/dab_detr/configs/dab_detr_r50_50ep.py",
    "patterns": "projects/dab_detr/configs/dab_detr_r50_3patterns_50ep.py",
    "dn": "projects/dn_detr/configs/dn_detr_r50_50ep.py",
    "anchor": "projects/anchor_detr/configs/anchor_detr_r50_50ep.py",
    "align": "projects/align_dab_detr/configs/align_dab_detr_r50_50ep.py",
}
BATCH = [image(64, 96, 3, seed=1), image(80, 48, 2, seed=2)]
methods = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def build(config: str) -> nn.Module:
    """A small model whose heads are not at their start, where all boxes are equal."""
    overrides = {"group_nums": 3} if "group" in config else {}
    model = tiny(config, **overrides)
    nn.init.normal_(model.heads().bbox_embed[0].layers[-1].weight, std=0.1)
    return model


def predict(model: nn.Module, batch=BATCH, targets=None) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        memory = model.encode(model.preprocess(batch))
        return model.decode(model.make_queries(memory, targets), memory)[:2]


@methods
def test_detections_do_not_depend_on_the_batch(config: str) -> None:
    model = build(config).eval()
    with torch.no_grad():
        together = model(BATCH)
        alone = [model([x])[0] for x in BATCH]
    for a, b in zip(together, alone, strict=True):
        a, b = a["instances"], b["instances"]
        torch.testing.assert_close(a.scores, b.scores, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, atol=1e-2, rtol=1e-4)


@methods
def test_losses_do_not_depend_on_the_order_of_the_batch(config: str) -> None:
    if "dn_detr" in config:
        pytest.skip("its noise is drawn target after target")
    model = build(config).train()
    first, second = model(BATCH), model(BATCH[::-1])
    for name, loss in first.items():
        torch.testing.assert_close(second[name], loss, atol=1e-5, rtol=1e-4)


@methods
@pytest.mark.parametrize("objects", [(3, 0), (0, 0), (40, 1)], ids=str)
def test_any_number_of_objects_trains(config: str, objects: tuple[int, int]) -> None:
    model = build(config).train()
    batch = [image(64, 96, objects[0], seed=3), image(80, 48, objects[1], seed=4)]
    losses = model(batch)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not name.startswith("denoising_generator"):
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    assert all(loss.isfinite() for loss in losses.values())


@methods
def test_only_detr_hides_padding_from_the_decoder_in_training(config: str) -> None:
    if "anchor_detr" in config:
        pytest.skip("it counts padding in means: see test_anchor_detr.py")
    model = build(config)
    images = model.preprocess(BATCH)
    with torch.no_grad():
        assert (model.train().encode(images).mask is not None) == ("/detr/" in config)
        assert model.eval().encode(images).mask is not None


def test_detr_gives_one_detection_per_query() -> None:
    model = build(CONFIGS["detr"]).eval()
    logits, boxes = predict(model, BATCH[:1])
    with torch.no_grad():
        instances = model(BATCH[:1])[0]["instances"]
    p = logits[-1, 0].softmax(-1)[:, :5]
    assert len(instances) == 10
    torch.testing.assert_close(instances.scores, p.max(-1).values)
    assert torch.equal(instances.pred_classes, p.argmax(-1))
    x, y, w, h = boxes[-1, 0].unbind(-1)
    corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)
    expected = corners.clamp(0, 1) * torch.tensor([96.0, 64.0, 96.0, 64.0])
    torch.testing.assert_close(instances.pred_boxes.tensor, expected, atol=1e-3, rtol=1e-4)


def test_conditional_boxes_are_measured_from_the_points() -> None:
    model = build(CONFIGS["conditional"]).eval()
    nn.init.zeros_(model.bbox_embed.layers[-1].weight)
    _, boxes = predict(model)
    decoder, position = model.transformer.decoder, model.query_embed.weight
    points = decoder.ref_point_head(position).sigmoid().expand(2, 2, -1, -1)
    torch.testing.assert_close(boxes[..., :2], points, atol=1e-5, rtol=1e-4)
    assert (boxes[..., 2:] == 0.5).all()


def test_patterns_share_the_boxes() -> None:
    model = build(CONFIGS["patterns"]).eval()
    nn.init.zeros_(model.bbox_embed.layers[-1].weight)
    logits, boxes = predict(model)
    anchors = model.anchor_box_embed.weight.sigmoid()
    assert logits.shape[2] == 30
    torch.testing.assert_close(boxes, anchors.repeat(3, 1).expand(2, 2, -1, -1), atol=1e-3, rtol=0)
    assert not torch.allclose(logits[:, :, :10], logits[:, :, 10:20], atol=1e-3)


def test_narrow_boxes_look_along_the_other_axis() -> None:
    decoder = build(CONFIGS["dab"]).eval().transformer.decoder
    from detrex.layers import get_sine_pos_embed
    from detrex.modeling.queries import Queries, QueryGroup

    boxes = torch.tensor([[[0.4, 0.6, 0.1, 0.5], [0.4, 0.6, 0.2, 0.5]]])
    queries = Queries(torch.zeros(1, 2, 256), None, boxes, (QueryGroup(size=2),))
    with torch.no_grad():
        look = decoder.position(0, queries, None)["query_sine_embed"][0]
        asked = decoder.ref_anchor_head(torch.zeros(256)).sigmoid()
    y, x = get_sine_pos_embed(boxes[0, 0, :2], 128).chunk(2)
    torch.testing.assert_close(look[0], torch.cat([y * asked[1] / 0.5, x * asked[0] / 0.1]))
    torch.testing.assert_close(look[1], torch.cat([y * asked[1] / 0.5, x * asked[0] / 0.2]))


def test_denoising_queries_do_not_reach_the_others() -> None:
    model = build(CONFIGS["dn"]).train()
    targets = model.targets(BATCH)
    with_noise, without = predict(model, targets=targets), predict(model)
    for x, y in zip(with_noise, without, strict=True):
        assert x.shape[2] == 10 + 5 * 3 and y.shape[2] == 10
        torch.testing.assert_close(x[:, :, :10], y, atol=1e-5, rtol=1e-5)


def test_denoising_losses_have_names_of_their_own() -> None:
    losses = build(CONFIGS["dn"]).train()(BATCH)
    kinds = [f"loss_{kind}" for kind in ("class", "bbox", "giou")]
    assert set(losses) == {k + n for k in kinds for n in ("", "_0", "_dn", "_dn_0")}
