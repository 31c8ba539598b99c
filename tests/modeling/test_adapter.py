"""A plain ViT under a spatial adapter: values, learning rates, recomputation, files."""

from __future__ import annotations

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from detrex.checkpoint import load_weights
from detrex.modeling.backbone import SpatialAdapter, adapter_parts
from detrex.train.optim import param_groups
from detrex.utils.errors import InputError
from tests.models import narrow, tiny

PATCHES = {"vit_small_patch14_dinov2": 14, "vit_small_patch16_dinov3": 16}


def adapter(name: str, **options) -> SpatialAdapter:
    """Three layers of 32 channels, levels of 8; batch norms that do something."""
    parts = adapter_parts(name, num_channels=8, width=4, **options)
    model = DictConfig(parts, flags={"allow_objects": True})
    narrow(model)
    torch.manual_seed(0)
    backbone = instantiate(model.backbone)
    for norm in (m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean), nn.init.uniform_(norm.running_var, 0.5, 2.0)
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    return backbone.eval()


def conv_norm(x: Tensor, conv: nn.Conv2d, stride: int) -> Tensor:
    x = F.conv2d(x, conv.weight, stride=stride, padding=conv.weight.shape[-1] // 2)
    mean, variance, weight, bias = (
        v[:, None, None]
        for v in (conv.norm.running_mean, conv.norm.running_var, conv.norm.weight, conv.norm.bias)
    )
    return (x - mean) / (variance + conv.norm.eps).sqrt() * weight + bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def layers(backbone: SpatialAdapter, image: Tensor) -> list[Tensor]:
    """The ViT block by block, without timm's way of returning layers."""
    network = backbone.net.timm_model.model
    grid = [side // backbone.patch_size for side in image.shape[-2:]]
    tokens = network.patch_embed(image)
    embedded = network._pos_embed(tokens)
    tokens, rotation = embedded if isinstance(embedded, tuple) else (embedded, None)
    tokens = network.norm_pre(tokens)
    results = []
    for block in network.blocks:
        tokens = block(tokens) if rotation is None else block(tokens, rope=rotation)
        patches = network.norm(tokens)[:, network.num_prefix_tokens :]
        results.append(patches.transpose(1, 2).unflatten(2, grid))
    return results


@torch.no_grad()
@pytest.mark.parametrize("name", PATCHES)
def test_levels_are_those_of_the_plain_formula(name: str) -> None:
    backbone, patch = adapter(name), PATCHES[name]
    image = torch.randn(2, 3, 64, 96)
    small = image
    if patch != 16:
        size = (64 // 16 * patch, 96 // 16 * patch)
        small = F.interpolate(image, size, mode="bilinear", antialias=True)
    local = F.max_pool2d(gelu(conv_norm(image, backbone.stem, 2)), 3, 2, 1)
    at8 = conv_norm(local, backbone.convs[0], 2)
    at16 = conv_norm(gelu(at8), backbone.convs[1], 2)
    at32 = conv_norm(gelu(at16), backbone.convs[2], 2)
    first, second, third = layers(backbone, small)
    resized = (
        F.interpolate(first, scale_factor=2, mode="bilinear"),
        second,
        F.interpolate(third, scale_factor=0.5, mode="bilinear"),
    )
    levels = backbone(image)
    assert list(levels) == ["p3", "p4", "p5"]
    for i, (layer, prior) in enumerate(zip(resized, (at8, at16, at32), strict=True)):
        expected = conv_norm(torch.cat([layer, prior], 1), backbone.fusions[i], 1)
        torch.testing.assert_close(levels[f"p{i + 3}"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PATCHES)
@pytest.mark.parametrize("size", [(70, 90), (111, 33)])
def test_levels_lie_on_whole_cells_of_any_image(name: str, size: tuple[int, int]) -> None:
    backbone, image = adapter(name), torch.randn(1, 3, *size)
    whole = F.pad(image, [0, -size[1] % 32, 0, -size[0] % 32])
    with torch.no_grad():
        levels, levels_of_whole = backbone(image), backbone(whole)
    for level, shape in backbone.output_shape().items():
        rows, columns = (-(-side // shape.stride) for side in size)
        assert levels[level].shape == (1, 8, rows, columns)
        assert torch.equal(levels[level], levels_of_whole[level][..., :rows, :columns])


@pytest.mark.parametrize("name", PATCHES)
def test_the_vit_learns_by_layers_and_the_adapter_at_the_full_rate(name: str) -> None:
    model = nn.ModuleDict({"backbone": adapter(name)})
    names = {id(p): n for n, p in model.named_parameters()}
    factor = {"blocks.0": 0.5**3, "blocks.1": 0.5**2, "blocks.2": 0.5, "norm": 1.0}
    for group in param_groups(model, 1.0, backbone_layer_decay=0.5):
        for parameter in group["params"]:
            full = names[id(parameter)]
            inside = full.removeprefix("backbone.net.timm_model.model.")
            layer = [f for part, f in factor.items() if inside.startswith(f"{part}.")]
            expected = 1.0 if inside == full else layer[0] if layer else 0.5**4
            assert group["lr"] == pytest.approx(expected), full


@pytest.mark.parametrize("name", PATCHES)
def test_blocks_computed_again_have_the_same_gradients(name: str) -> None:
    image, gradients, runs = torch.randn(1, 3, 64, 64), [], []
    for again in (False, True):
        backbone, calls = adapter(name, use_checkpoint=again).train(), []
        backbone.net.timm_model.model.blocks[1].register_forward_pre_hook(
            lambda *_, c=calls: c.append(1)
        )
        sum(x.square().sum() for x in backbone(image).values()).backward()
        gradients.append({name: p.grad for name, p in backbone.named_parameters()})
        runs.append(len(calls))
    assert runs == [1, 2]
    torch.testing.assert_close(*gradients)


def test_a_classifiers_file_fills_the_network_with_its_last_norm(tmp_path) -> None:
    name = "vit_small_patch16_dinov3"
    classifier = timm.create_model(name, num_classes=3, embed_dim=32, depth=3, num_heads=2)
    nn.init.normal_(classifier.norm.weight)
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    model = nn.ModuleDict({"backbone": adapter(name)})
    report, _ = load_weights(model, tmp_path / "classifier.pth", strict=False)
    assert not any(".net." in key for key in report.missing)
    network = model["backbone"].net.timm_model.model
    for key, value in network.state_dict().items():
        assert torch.equal(value, classifier.state_dict()[key]), key


def test_what_is_no_plain_vit_is_refused() -> None:
    with pytest.raises(InputError, match="resnet18 is no plain ViT: use timm_parts"):
        adapter_parts("resnet18")


def test_deimv2s_widths_and_epochs() -> None:
    """deimv2_dinov3_l_coco.yml: hidden_dim 224, conv_inplane 32, layers 5, 8, 11."""
    from detrex.train import load_config

    config = "projects/deim/configs/deim_dinov3_small_68e_coco.py"
    cfg = load_config(config)
    assert [*cfg.model.backbone.net.out_indices] == [5, 8, 11] and cfg.model.backbone.net.last_norm
    assert (cfg.model.backbone.width, cfg.model.backbone.out_channels) == (32, 224)
    first, second = cfg.dataloader.train.mapper.windows
    epochs = [68 * edge for edge in (first.start, first.stop, second.start, second.stop)]
    assert epochs == pytest.approx([4, 34, 34, 60])
    assert cfg.model.criterion.matcher.matcher_change_iter * 68 == pytest.approx(50)
    model = tiny(config)
    cfg.optimizer.params.model = model
    rates = sorted({g["lr"] for g in instantiate(cfg.optimizer).param_groups})
    assert rates == pytest.approx([1.25e-5, 5e-4])
