"""A small Relation-DETR against the numbers of its released code (xiuqhou/Relation-DETR b485955).

``relation_detr.json``: keys and shapes as the released code has them, losses, and each gradient's
norm and product with ``recipe.signed("g", key, shape)``. The backbone is a stand-in that returns
the same features for every image. What differs on purpose is taken away for the comparison: the
1e-6 in our IoU, and that a CPU draws labels for changed ones alone.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

import detrex.layers.box_ops
import detrex.modeling.denoising
from detrex.modeling.detector import Images
from tests.models import ROOT

from . import recipe

GOLDEN = json.loads((Path(__file__).parent / "relation_detr.json").read_text())
SPEC = GOLDEN["spec"]
SEED = str(SPEC["seed"])
BATCHES = {
    "A": ([(96, 128), (112, 80)], [5, 2], (0.45, 0.9)),
    "B": ([(96, 128), (112, 80)], [4, 0], (0.45, 0.9)),
    "Z": ([(96, 128), (112, 80)], [0, 0], (0.45, 0.9)),
    "T": ([(96, 128), (112, 80)], [3, 2], (0.02, 0.06)),
    "E1": ([(96, 128)], [3], (0.45, 0.9)),
}
HEADS = {"class_embed": "class_head", "bbox_embed": "bbox_head"}
PARTS = (
    (r"^neck\.convs\.(\d)\.conv", r"neck.convs.\1.0"),
    (r"^neck\.convs\.(\d)\.norm", r"neck.convs.\1.1"),
    (r"^neck\.extra_convs\.0\.conv", "neck.convs.3.0"),
    (r"^neck\.extra_convs\.0\.norm", "neck.convs.3.1"),
    (r"(decoder\.layers\.\d)\.attentions\.0\.attn", r"\1.self_attn"),
    (r"(encoder\.layers\.\d)\.attentions\.0", r"\1.self_attn"),
    (r"attentions\.1", "cross_attn"),
    (r"ffns\.0\.layers\.0\.0", "linear1"),
    (r"ffns\.0\.layers\.1", "linear2"),
    (r"(encoder\.layers\.\d)\.norms\.0", r"\1.norm1"),
    (r"(encoder\.layers\.\d)\.norms\.1", r"\1.norm2"),
    (r"(decoder\.layers\.\d)\.norms\.0", r"\1.norm2"),
    (r"(decoder\.layers\.\d)\.norms\.1", r"\1.norm1"),
    (r"(decoder\.layers\.\d)\.norms\.2", r"\1.norm3"),
    (r"^label_enc", "denoising_generator.label_encoder"),
    (r"^hybrid_", "transformer.hybrid_"),
)


class StandIn(nn.Module):
    """Features that depend on the size of the batch alone."""

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        batch, _, height, width = pixels.shape
        features = {}
        for i, channels in enumerate(SPEC["channels"]):
            shape = (batch, channels, -(-height // (8 << i)), -(-width // (8 << i)))
            values = recipe.signed(SEED, f"feature{i}", shape).astype(np.float32)
            features[f"res{i + 3}"] = torch.from_numpy(values)
        return features


def official(name: str) -> str:
    """The released code's name of a parameter."""
    head = re.match(r"(?:transformer\.decoder\.)?(class_embed|bbox_embed)\.(\d+)\.(.*)", name)
    if head:
        kind, layer, rest = HEADS[head[1]], int(head[2]), head[3]
        is_encoder = layer == SPEC["dec"]
        return (
            f"transformer.{f'encoder_{kind}' if is_encoder else f'decoder.{kind}.{layer}'}.{rest}"
        )
    for pattern, replacement in PARTS:
        name = re.sub(pattern, replacement, name)
    return name


def batch(key: str) -> list[dict]:
    sizes, objects, sides = BATCHES[key]
    spec = {"sizes": sizes, "gt": objects, "out": sizes, "side": sides}
    golden = {"seed": SEED, "num_classes": SPEC["K"], "batches": {key: spec}}
    return recipe.batch(golden, key, train=True)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    path = ROOT / "projects/relation_detr/configs/models/relation_detr_r50.py"
    cfg = LazyConfig.load(str(path)).model
    dim, channels = SPEC["dim"], enumerate(SPEC["channels"])
    cfg.neck.input_shapes = {f"res{i + 3}": ShapeSpec(channels=c) for i, c in channels}
    cfg.neck.update(out_channels=dim)
    cfg.neck.norm_layer.num_channels = dim
    cfg.position_embedding.num_pos_feats = dim // 2
    for stack, layers in ((cfg.transformer.encoder, "enc"), (cfg.transformer.decoder, "dec")):
        stack.update(embed_dim=dim, feedforward_dim=SPEC["ffn"], num_layers=SPEC[layers])
    cfg.update(embed_dim=dim, num_classes=SPEC["K"], num_queries=SPEC["queries"])
    cfg.update(num_hybrid_queries=SPEC["hybrid"], k_hybrid=SPEC["assign"], dn_number=SPEC["dn"])
    cfg.update(select_box_nums_for_evaluation=SPEC["select"], backbone=L(StandIn)())
    model = instantiate(cfg)
    state = model.state_dict(keep_vars=True)
    shapes = {official(k): list(v.shape) for k, v in state.items() if "criterion" not in k}
    assert shapes == GOLDEN["keys"]
    with torch.no_grad():
        for name, tensor in state.items():
            name, shape = official(name), tuple(tensor.shape)
            centre, width = recipe.centre_and_width(name, shape)
            tensor.copy_(torch.from_numpy(centre + width * recipe.signed(SEED, name, shape)))
    return model


@pytest.fixture(autouse=True)
def as_released(monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> None:
    def draw_all(labels: Tensor, probability: float, classes: int) -> Tensor:
        changed = torch.rand_like(labels, dtype=torch.float32) < probability
        return torch.where(changed, torch.randint_like(labels, classes), labels)

    def pad(inputs: list[dict]) -> Images:
        sizes = [tuple(x["image"].shape[-2:]) for x in inputs]
        height, width = (-(-max(side) // 32) * 32 for side in zip(*sizes, strict=True))
        mask = torch.ones(len(sizes), height, width, dtype=torch.bool)
        for image, (h, w) in zip(mask, sizes, strict=True):
            image[:h, :w] = False
        return Images(torch.zeros(len(sizes), 3, height, width), mask, sizes)

    monkeypatch.setattr(detrex.layers.box_ops, "EPS", 0.0)
    monkeypatch.setattr(model.criterion, "overlap_eps", 0.0)
    monkeypatch.setattr(detrex.modeling.denoising, "apply_label_noise", draw_all)
    monkeypatch.setattr(model, "preprocess", pad)


@pytest.mark.parametrize("key", ["A", "B", "Z", "T"])
def test_losses_and_gradients(key: str, model: nn.Module) -> None:
    case = GOLDEN["cases"][key]
    model.train().zero_grad()
    torch.manual_seed(1234)
    losses = model(batch(key))
    for name, value in case["losses"].items():
        assert losses[name].item() == pytest.approx(value, rel=1e-5, abs=1e-6), name
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        expected = case["grads"].get(official(name))
        if isinstance(expected, list):
            direction = recipe.signed("g", official(name), tuple(parameter.shape))
            norm, product = expected
            assert parameter.grad.norm().item() == pytest.approx(norm, rel=2e-4, abs=1e-6), name
            value = (parameter.grad.double() * torch.from_numpy(direction)).sum().item()
            assert value == pytest.approx(product, abs=2e-3 * norm + 1e-6), name


def test_detections(model: nn.Module) -> None:
    case = GOLDEN["cases"]["E1"]
    model.eval()
    with torch.no_grad():
        detections = model(batch("E1"))[0]["instances"]
    assert detections.scores.tolist() == pytest.approx(case["scores"], abs=2e-5)
    assert detections.pred_classes.tolist() == case["labels"]
    height, width = BATCHES["E1"][0][0]
    boxes = torch.tensor(case["boxes"])
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
    torch.testing.assert_close(detections.pred_boxes.tensor, boxes, atol=5e-3, rtol=0)
