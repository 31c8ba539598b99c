"""RT-DETR's neck and backbones: folded norms, sizes, timm's weights."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling.backbone import ResNet
from torch import nn

from detrex.checkpoint.convert import convert
from detrex.layers.folded_norm import fold_norms
from projects.rt_detr.modeling import DeepStem, HybridEncoder, make_vd_stages
from projects.rt_detr.modeling.hybrid_encoder import RepConv, sine_grid
from tests.models import image, tiny

LEVELS = ["res3", "res4", "res5"]


@torch.no_grad()
def statistics(model: nn.Module) -> nn.Module:
    """Norms that change what passes them."""
    for name, tensor in model.state_dict().items():
        if "norm" in name and name.endswith(("weight", "running_var")):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.2)
    return model


def neck(**options) -> HybridEncoder:
    torch.manual_seed(0)
    shapes = {name: ShapeSpec(channels=8 << i) for i, name in enumerate(LEVELS)}
    return statistics(HybridEncoder(shapes, LEVELS, 16, 32, out_channels=24, **options)).eval()


def features(height: int, width: int) -> dict[str, torch.Tensor]:
    sizes = [(-(-height // s), -(-width // s)) for s in (8, 16, 32)]
    torch.manual_seed(1)
    named = zip(LEVELS, sizes, strict=True)
    return {name: torch.randn(2, 8 << i, *size) for i, (name, size) in enumerate(named)}


@pytest.mark.parametrize("size", [(64, 96), (75, 101), (20, 40)])
def test_levels_keep_their_sizes(size: tuple[int, int]) -> None:
    given = features(*size)
    for level, name in zip(neck(expansion=0.5)(given), LEVELS, strict=True):
        assert level.shape == (2, 24, *given[name].shape[2:])


def test_at_inference_norms_are_folded_and_parallel_convolutions_are_one() -> None:
    plain, given = neck(), features(64, 96)
    fast = copy.deepcopy(plain)
    fold_norms(fast)
    for module in plain.modules():
        if isinstance(module, RepConv):
            module.training = True  # its norms still do as in evaluation
    for a, b in zip(plain(given), fast(given), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_norms_learn_in_training() -> None:
    model = neck().train()
    fold_norms(model)
    norms = [m.norm for m in model.modules() if isinstance(m, Conv2d)]
    before = [norm.running_mean.clone() for norm in norms]
    sum(level.sum() for level in model(features(64, 96))).backward()
    assert not any(norm.running_mean.equal(x) for norm, x in zip(norms, before, strict=True))
    assert all(norm.weight.grad is not None for norm in norms)


def test_sine_grid_is_rows_then_columns() -> None:
    grid = sine_grid(3, 5, 8, torch.device("cpu")).view(3, 5, 8)
    for row in range(3):
        for column in range(5):
            angles = [torch.tensor([x, x / 100.0]) for x in (float(row), float(column))]
            expected = torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)])
            torch.testing.assert_close(grid[row, column], expected)


@pytest.mark.parametrize("depth", [18, 50])
@torch.no_grad()
def test_resnet_vd_with_timm_weights_finds_what_timm_finds(depth: int) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(f"resnet{depth}d", features_only=False)
    for name, tensor in theirs.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            tensor.normal_(0, 0.2)
    stages = make_vd_stages(depth)
    ours = ResNet(DeepStem(), stages, out_features=["res2", "res5"])
    weights = convert(theirs.state_dict(), "torchvision")
    ours.load_state_dict({k.removeprefix("backbone."): v for k, v in weights.items()})
    pixels = torch.randn(1, 3, 75, 101)
    found = ours.eval()(pixels)
    _, expected = theirs.eval().forward_intermediates(pixels, indices=[1, 4])
    for a, b in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_detections_do_not_depend_on_the_batch() -> None:
    model = tiny("projects/rt_detr/configs/rtdetr_r50vd_6x_coco.py").eval()
    statistics(model.neck)
    records = [image(64, 96, 0, seed=1), image(75, 64, 0, seed=2)]
    with torch.no_grad():
        together = model(records)
        alone = [model([record])[0] for record in records]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a["instances"].scores, b["instances"].scores)
        boxes = (x["instances"].pred_boxes.tensor for x in (a, b))
        torch.testing.assert_close(*boxes, rtol=1e-4, atol=1e-2)
