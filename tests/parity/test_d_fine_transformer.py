"""D-FINE's transformer, whole, against its released code (Peterande/D-FINE 4a1f73a).

``d_fine.json``: keys and shapes as the released code has them, and of outputs, losses and gradients
the norm and the product with ``recipe.signed("g", name, shape)``. Levels are made from the seed.
The convolutions that widen them belong to the neck here.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import detrex.layers.box_ops
from detrex.checkpoint import compare
from detrex.checkpoint.convert import convert, detect_layout
from detrex.modeling.matcher import HungarianMatcher
from detrex.modeling.transformer import Memory
from projects.d_fine.modeling import DFINE, DFINECriterion, DFINETransformerDecoder
from projects.rt_detr.modeling import RTDETRTransformer

from . import recipe
from .kits import boxes_of
from .test_d_fine import WEIGHTS, check, our_name

GOLDEN = json.loads((Path(__file__).parent / "d_fine.json").read_text())["transformer"]
EVALUATED = load_file(Path(__file__).parent / "d_fine.safetensors")


class Projections(nn.Module):
    """The neck's last convolutions, where a level is not as wide as the transformer."""

    def __init__(self, channels: list[int], dim: int) -> None:
        super().__init__()
        self.output_proj = nn.ModuleList()
        for width in channels:
            conv = nn.Conv2d(width, dim, 1, bias=False)
            conv.norm = nn.BatchNorm2d(dim)
            self.output_proj.append(nn.Identity() if width == dim else conv)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        pairs = zip(self.output_proj, levels, strict=True)
        return [x if isinstance(p, nn.Identity) else p.norm(p(x)) for p, x in pairs]


def build(spec: dict, keys: dict) -> DFINE:
    """The model with the golden weights, which the converter renames."""
    points = spec["points"]
    levels = len(spec["channels"])
    decoder = DFINETransformerDecoder(
        embed_dim=spec["dim"],
        num_heads=spec["heads"],
        feedforward_dim=spec["ffn"],
        num_layers=spec["layers"],
        num_points=points if isinstance(points, list) else [points] * levels,
        reg_scale=spec["scale"],
    )
    loss = dict(loss_class_type="varifocal_detached_loss", alpha=0.25, gamma=2.0)
    model = DFINE(
        backbone=nn.Identity(),
        neck=Projections(spec["channels"], spec["dim"]),
        transformer=RTDETRTransformer(decoder),
        embed_dim=spec["dim"],
        num_classes=spec["K"],
        num_queries=spec["queries"],
        dn_number=spec["dn"],
        label_noise_ratio=0.5,
        criterion=DFINECriterion(spec["K"], HungarianMatcher(2.0, 5.0, 2.0), WEIGHTS, **loss),
    )
    weights = {}
    for name, shape in keys.items():
        centre, width = recipe.centre_and_width(name, tuple(shape))
        values = centre + width * recipe.signed(spec["seed"], name, tuple(shape))
        weights[f"decoder.{name}"] = torch.tensor(np.asarray(values, np.float32).reshape(shape))
    assert detect_layout(weights) == "d_fine"
    converted = convert(weights, "d_fine")
    report = compare(model, converted)
    assert not report.missing and not report.unexpected and not report.misshaped
    model.load_state_dict(converted, strict=False)
    return model


def levels_of(spec: dict) -> list[Tensor]:
    levels = []
    for i, channels in enumerate(spec["channels"]):
        width = (spec["size"] >> i) + (2 >> i if spec.get("wide") else 0)
        shape = (spec["B"], channels, spec["size"] >> i, width)
        values = recipe.signed(spec["seed"], f"feature{i}", shape).astype(np.float32)
        levels.append(torch.from_numpy(values).requires_grad_())
    return levels


def targets_of(spec: dict) -> list[dict[str, Tensor]]:
    targets = []
    for b, count in enumerate(spec["T"]):
        boxes = torch.tensor(boxes_of(spec["seed"], f"gt{b}", count).astype(np.float32))
        labels = torch.as_tensor(recipe.labels(spec["seed"], b, count, spec["K"]))
        targets.append({"labels": labels, "boxes": boxes})
    return targets


def memory_of(model: DFINE, levels: list[Tensor]) -> Memory:
    levels = model.neck(levels)
    masks = [torch.zeros(len(x), *x.shape[-2:], dtype=torch.bool) for x in levels]
    return model.encode_levels(levels, masks)


@pytest.fixture(autouse=True)
def as_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detrex.layers.box_ops, "EPS", 0.0)
    monkeypatch.setattr(DFINECriterion, "overlap_eps", 0.0)


@pytest.mark.parametrize("name", GOLDEN)
@torch.no_grad()
def test_inference(name: str) -> None:
    case = GOLDEN[name]
    model = build(case["spec"], case["keys"]).eval()
    outputs, _ = model.run(memory_of(model, levels_of(case["spec"])))
    close = dict(rtol=0, atol=5e-6)
    torch.testing.assert_close(outputs.logits[-1], EVALUATED[f"{name}.eval.logits"], **close)
    torch.testing.assert_close(outputs.boxes[-1], EVALUATED[f"{name}.eval.boxes"], **close)


@pytest.mark.parametrize("name", GOLDEN)
def test_training(name: str) -> None:
    case = GOLDEN[name]
    spec = case["spec"]
    model = build(spec, case["keys"]).train()
    levels, targets = levels_of(spec), targets_of(spec)
    torch.manual_seed(1234)
    outputs, queries = model.run(memory_of(model, levels), targets)
    sets = [*model.supervised_sets(outputs, queries.groups), *queries.proposals]
    losses = model.losses(sets, targets)
    by_name = {s.group.name: s for s in sets}
    layers = spec["layers"]
    for key, expected in case["train"].items():
        layer = {"last": layers - 1}.get(key, int(key[-1]) if key[-1].isdigit() else 0)
        group = key.rstrip("0123456789").replace("aux", "").replace("last", "")
        predictions = by_name[f"_{group}" if group else ""]
        for kind, value in expected.items():
            x = getattr(predictions, {"refs": "reference"}.get(kind, kind))
            x = x if kind == "refs" else x[layer]
            check(kind, x.detach(), value, 2e-5)
    expected = {our_name(key, layers): value for key, value in case["losses"].items()}
    assert expected.pop("loss_ddf_dn") == 0  # of the last layer by itself
    assert losses.keys() == expected.keys()
    for key, value in losses.items():
        assert value.item() == pytest.approx(expected[key], rel=2e-5, abs=1e-6), key
    sum(losses.values()).backward()
    numbered = {f"decoder.{key}": torch.tensor(i) for i, key in enumerate(case["keys"])}
    names = {int(i): name for name, i in convert(numbered, "d_fine").items()}
    for i, key in enumerate(case["keys"]):
        if key in case["grads"]:
            check(key, model.get_parameter(names[i]).grad, case["grads"][key], 2e-4)
    for level, expected in zip(levels, case["feature_grads"], strict=True):
        assert level.grad.norm().item() == pytest.approx(expected[0], rel=1e-4)
