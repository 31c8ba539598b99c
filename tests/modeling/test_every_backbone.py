"""Every backbone that can be named builds, trains a step, and its levels lie where they should."""

from __future__ import annotations

import math

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from omegaconf import DictConfig, OmegaConf

from detrex.config import get_config
from detrex.modeling.backbone import adapter_parts, timm_parts
from tests.models import ROOT, image, narrow, shrink

CONFIG = "projects/deformable_detr/configs/deformable_detr_r50_two_stage_50ep.py"
SHIPPED = [
    *("r18", "r34", "r50", "r101"),
    *("swin_tiny", "swin_small", "swin_base_384", "swin_large", "swin_large_384_5scale"),
    *("convnext_tiny", "focalnet_tiny", "focalnet_large_fl4_5scale", "vit_base"),
]
TIMM = {
    "mobilenetv3_small_050": {},
    "resnet18": {"frozen_norm": True, "model_options": dict(zero_init_last=False)},
    "convnext_atto": {},
    "vit_small_patch14_dinov2": {"use_checkpoint": True},
    "vit_small_patch16_dinov3": {},
    "swin_tiny_patch4_window7_224": {"model_options": dict(strict_img_size=False, embed_dim=24)},
}


def small(parts: DictConfig) -> dict:
    """The same kind of backbone, with fewer channels and layers where that takes no new class."""
    backbone, neck = parts.backbone, parts.neck
    if "window_size" in backbone:  # Swin
        widths = [24 * 2 ** int(name[1:]) for name in neck.in_features]
        backbone.update(embed_dim=24, depths=(1, 1, 2, 1), num_heads=(1, 2, 4, 8))
        for name, width in zip(neck.in_features, widths, strict=True):
            neck.input_shapes[name].channels = width
    elif "depths" in backbone:  # ConvNeXt, FocalNet
        narrow(parts)
    elif "net" in backbone:  # ViT
        backbone.net.update(embed_dim=32, depth=4, num_heads=2, img_size=64)
        backbone.net.window_block_indexes = [0, 1, 2]
    return dict(backbone=backbone, neck=neck)


def detector(parts: dict) -> torch.nn.Module:
    model = LazyConfig.load(str(ROOT / CONFIG)).model
    shrink(model)
    model.update(parts)
    levels = model.neck.num_outs
    OmegaConf.update(model, "transformer.num_feature_levels", levels)
    torch.manual_seed(0)
    return instantiate(model)


def trains(model: torch.nn.Module) -> None:
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    of_backbone = [name for name in trained if name.startswith("backbone.")]
    before = {name: trained[name].detach().clone() for name in of_backbone}
    optimizer = torch.optim.SGD(trained.values(), lr=1e-2)
    total = sum(model.train()([image(70, 90, 2), image(90, 70, 1)]).values())
    total.backward()
    optimizer.step()
    assert math.isfinite(total.item())
    moved = [name for name in of_backbone if not torch.equal(before[name], trained[name])]
    assert len(moved) > 0.6 * len(of_backbone) > 0  # the others' gradients are too small to see


def levels_fit(model: torch.nn.Module, height: int = 70, width: int = 90) -> None:
    """A level of stride s has ceil(H / s) x ceil(W / s) cells, as the positions assume."""
    shapes = model.backbone.output_shape()
    with torch.no_grad():
        features = model.backbone.eval()(torch.zeros(1, 3, height, width))
    for name, feature in features.items():
        channels, stride = shapes[name].channels, shapes[name].stride
        assert feature.shape == (1, channels, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped(name: str) -> None:
    model = detector(small(get_config("common/models/multi_scale.py")[name]))
    trains(model)
    levels_fit(model, *((64, 96) if "convnext" in name else ()))  # see ConvNeXt


@pytest.mark.parametrize("name", TIMM)
def test_timm_by_one_line(name: str) -> None:
    parts = DictConfig(timm_parts(name, **TIMM[name]), flags={"allow_objects": True})
    if "swin" in name:
        for level, width in zip(parts["neck"].in_features, (48, 96, 192), strict=True):
            parts["neck"].input_shapes[level].channels = width
    if "dinov" in name:
        narrow(parts)
    model = detector(parts)
    trains(model)
    levels_fit(model, *((64, 96) if "convnext" in name else ()))  # see TimmBackbone


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch16_dinov3"])
def test_plain_vit_under_an_adapter(name: str) -> None:
    parts = DictConfig(adapter_parts(name), flags={"allow_objects": True})
    narrow(parts)
    model = detector(parts)
    trains(model)
    levels_fit(model)


@pytest.mark.parametrize("name", ["r50", "r101", "r50_dilated", "r50_dc5", "swin_tiny"])
def test_single_scale(name: str) -> None:
    parts = get_config("common/models/single_scale.py")[name]
    shape = instantiate(parts.backbone).output_shape()[parts.in_features[0]]
    assert shape.channels == parts.in_channels
    assert shape.stride == (16 if "d" in name.removeprefix("r50") and "swin" not in name else 32)
