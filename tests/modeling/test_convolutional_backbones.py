"""ConvNeXt and FocalNet: official names, and the features of timm's models with these weights."""

from __future__ import annotations

import re
from itertools import product

import pytest
import torch
from timm.models import convnext, focalnet
from torch import Tensor, nn

from detrex.checkpoint import load_weights
from detrex.modeling.backbone import ConvNeXt, FocalNet
from tests.refusals import assert_refused

DEPTHS, WIDTHS = (1, 2, 1, 1), (8, 16, 32, 64)
WIDE = dict(use_conv_embed=True, use_postln=True, use_layerscale=True)
INNER = dict(use_postln_in_modulation=True, normalize_modulator=True)
TIMM_WIDE = dict(use_overlap_down=True, use_post_norm=True, layerscale_value=1e-4)
TIMM_INNER = dict(use_post_norm_in_modulation=True, normalize_modulator=True)
FOCAL_NETS = {  # our options, timm's
    "tiny": (dict(focal_windows=(3,) * 4), dict(focal_windows=(3,) * 4)),
    "large_fl3": (
        {**WIDE, "focal_windows": (5,) * 4},
        {**TIMM_WIDE, "focal_windows": (5,) * 4},
    ),
    "huge_fl4": (
        {**WIDE, **INNER, "focal_levels": (4,) * 4},
        {**TIMM_WIDE, **TIMM_INNER, "focal_levels": (4,) * 4},
    ),
}


def random_values(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def layer(name: str, *weight: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": weight, **({f"{name}.bias": weight[:1]} if bias else {})}


def convnext_file() -> dict[str, Tensor]:
    """The names and shapes in the authors' ImageNet files: stages.0.0.dwconv.weight, ..."""
    shapes = layer("downsample_layers.0.0", 8, 3, 4, 4) | layer("downsample_layers.0.1", 8)
    for i in (1, 2, 3):
        shapes |= layer(f"downsample_layers.{i}.0", WIDTHS[i - 1])
        shapes |= layer(f"downsample_layers.{i}.1", WIDTHS[i], WIDTHS[i - 1], 2, 2)
    for i, width in enumerate(WIDTHS):
        for block in (f"stages.{i}.{j}" for j in range(DEPTHS[i])):
            shapes[f"{block}.gamma"] = (width,)
            shapes |= layer(f"{block}.dwconv", width, 1, 7, 7) | layer(f"{block}.norm", width)
            shapes |= layer(f"{block}.pwconv1", 4 * width, width)
            shapes |= layer(f"{block}.pwconv2", width, 4 * width)
    return random_values(shapes | layer("norm", 64) | layer("head", 10, 64))


def focalnet_file(
    use_conv_embed: bool = False,
    use_layerscale: bool = False,
    use_postln_in_modulation: bool = False,
    focal_levels: tuple[int, ...] = (3,) * 4,
    focal_windows: tuple[int, ...] = (3,) * 4,
    **_,
) -> dict[str, Tensor]:
    """The names and shapes in the authors' ImageNet files: layers.0.blocks.0.modulation.f, ..."""
    stem, merge = (7, 3) if use_conv_embed else (4, 2)
    shapes = layer("patch_embed.proj", 8, 3, stem, stem) | layer("patch_embed.norm", 8)
    for i, width in enumerate(WIDTHS):
        if i < 3:
            down = f"layers.{i}.downsample"
            shapes |= layer(f"{down}.proj", 2 * width, width, merge, merge)
            shapes |= layer(f"{down}.norm", 2 * width)
        for block in (f"layers.{i}.blocks.{j}" for j in range(DEPTHS[i])):
            inner, levels = f"{block}.modulation", focal_levels[i]
            shapes |= layer(f"{block}.norm1", width) | layer(f"{block}.norm2", width)
            shapes |= layer(f"{inner}.f", 2 * width + levels + 1, width)
            shapes |= layer(f"{inner}.h", width, width, 1, 1) | layer(f"{inner}.proj", width, width)
            for k in range(levels):
                kernel = (width, 1, focal_windows[i] + 2 * k, focal_windows[i] + 2 * k)
                shapes |= layer(f"{inner}.focal_layers.{k}.0", *kernel, bias=False)
            shapes |= layer(f"{inner}.ln", width) if use_postln_in_modulation else {}
            shapes |= layer(f"{block}.mlp.fc1", 4 * width, width)
            shapes |= layer(f"{block}.mlp.fc2", width, 4 * width)
            shapes |= {f"{block}.gamma_{k}": (width,) for k in "12" if use_layerscale}
    return random_values(shapes | layer("norm", 64) | layer("head", 10, 64))


def assert_loads_and_agrees(
    backbone: nn.Module, weights: dict[str, Tensor], reference: nn.Module, folder
) -> None:
    """A classifier's file fills all but the levels' norms; features are timm's before them."""
    torch.save({"model": weights}, folder / "classifier.pth")
    detector = nn.ModuleDict({"backbone": backbone})
    report, _ = load_weights(detector, folder / "classifier.pth", strict=False)
    norms = {f"backbone.norm{i}.{kind}" for i, kind in product((1, 2, 3), ("weight", "bias"))}
    head = {f"{name}.{kind}" for name, kind in product(("norm", "head"), ("weight", "bias"))}
    assert set(report.missing) == norms
    assert {name.removeprefix("backbone.") for name in report.unexpected} == head
    for name in norms:
        nn.init.normal_(detector.get_parameter(name), 1.0)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        levels = backbone.eval()(images)
        references = reference.eval().forward_intermediates(images, intermediates_only=True)
    assert list(levels) == list(backbone.output_shape()) == ["p1", "p2", "p3"]
    for i in (1, 2, 3):
        norm = backbone.get_submodule(f"norm{i}")
        rows = references[i].permute(0, 2, 3, 1)
        expected = nn.functional.layer_norm(rows, rows.shape[-1:], norm.weight, norm.bias, norm.eps)
        torch.testing.assert_close(levels[f"p{i}"].permute(0, 2, 3, 1), expected)
        shape = backbone.output_shape()[f"p{i}"]
        assert (shape.channels, shape.stride) == (rows.shape[-1], 96 // rows.shape[2])


def test_convnext_files_give_timms_features(tmp_path) -> None:
    weights = convnext_file()
    reference = convnext.ConvNeXt(depths=DEPTHS, dims=WIDTHS, num_classes=10)
    reference.load_state_dict(convnext.checkpoint_filter_fn(dict(weights), reference))
    backbone = ConvNeXt(depths=DEPTHS, dims=WIDTHS, out_indices=(1, 2, 3))
    assert_loads_and_agrees(backbone, weights, reference, tmp_path)


@pytest.mark.parametrize("size", FOCAL_NETS)
def test_focalnet_files_give_timms_features(size: str, tmp_path) -> None:
    ours, theirs = FOCAL_NETS[size]
    weights = focalnet_file(**ours)
    sizes = dict(embed_dim=8, depths=DEPTHS)
    reference = focalnet.FocalNet(**sizes, num_classes=10, **{"focal_levels": (3,) * 4, **theirs})
    reference.load_state_dict(focalnet.checkpoint_filter_fn(dict(weights), reference))
    if "use_conv_embed" in ours:
        reference.stem.proj.padding = (3, 3)  # the detectors'; timm has the classifiers' 2
    backbone = FocalNet(**sizes, out_indices=(1, 2, 3), **ours)
    assert_loads_and_agrees(backbone, weights, reference, tmp_path)


def test_sizes_that_are_no_whole_patches() -> None:
    image = torch.zeros(1, 3, 70, 90)
    with torch.no_grad():
        whole = ConvNeXt(depths=DEPTHS, dims=WIDTHS)(image)
        padded = FocalNet(embed_dim=8, depths=DEPTHS)(image)
        overlapping = FocalNet(embed_dim=8, depths=DEPTHS, use_conv_embed=True)(image)
    assert [tuple(x.shape[2:]) for x in whole.values()] == [(17, 22), (8, 11), (4, 5), (2, 2)]
    for levels in (padded, overlapping):
        assert [tuple(x.shape[2:]) for x in levels.values()] == [(18, 23), (9, 12), (5, 6), (3, 3)]


@pytest.mark.parametrize(
    ("backbone", "trained"),
    [
        (
            ConvNeXt(dims=WIDTHS, depths=DEPTHS, frozen_stages=2),
            r"(downsample_layers|stages)\.[23]",
        ),
        (FocalNet(embed_dim=8, depths=DEPTHS, frozen_stages=2), r"layers\.[123]"),
        (FocalNet(embed_dim=8, depths=DEPTHS, frozen_stages=0), r"layers"),
    ],
)
def test_frozen_stages(backbone: nn.Module, trained: str) -> None:
    for name, parameter in backbone.named_parameters():
        free = re.match(rf"({trained}|norm\d)\.", name) is not None
        assert parameter.requires_grad == free, name


def test_blocks_computed_again_have_the_same_gradients() -> None:
    torch.manual_seed(0)
    plain = FocalNet(embed_dim=8, depths=DEPTHS, drop_path_rate=0.0)
    again = FocalNet(embed_dim=8, depths=DEPTHS, drop_path_rate=0.0, use_checkpoint=True)
    again.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 64)
    gradients = []
    for backbone in (plain, again):
        sum(x.square().sum() for x in backbone(image).values()).backward()
        gradients.append([p.grad for p in backbone.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("action", "names"),
    [
        (lambda: ConvNeXt(out_indices=(1, 4)), ["backbone.out_indices", "[1, 4]", "0 to 3"]),
        (lambda: FocalNet(out_indices=(-1,)), ["backbone.out_indices", "[-1]", "0 to 3"]),
        (lambda: FocalNet(patch_size=2), ["backbone.patch_size=2", "4"]),
    ],
)
def test_what_they_do_not_have_is_refused(request, action, names) -> None:
    assert_refused(request, action, *names)
