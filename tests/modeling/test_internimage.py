"""InternImage: its deformable convolution against a plain formula, names, levels, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from detrex.modeling.backbone.internimage import DCNv3, InternImage
from detrex.utils.errors import InputError

SMALL = dict(channels=16, depths=(1, 2, 1, 1), groups=(2, 4, 8, 16), drop_path_rate=0.0)


def bilinear(plane: Tensor, x: float, y: float) -> Tensor:
    """(H, W, D) at pixel (x, y); zero outside."""
    total = torch.zeros_like(plane[0, 0])
    for column in (math.floor(x), math.floor(x) + 1):
        for row in (math.floor(y), math.floor(y) + 1):
            if 0 <= column < plane.shape[1] and 0 <= row < plane.shape[0]:
                total += (1 - abs(x - column)) * (1 - abs(y - row)) * plane[row, column]
    return total


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_deformable_convolution_is_the_plain_sum(scale: float) -> None:
    """Point k of a group lies k // 3 - 1 columns and k % 3 - 1 rows from the token, as upstream."""
    torch.manual_seed(0)
    dcn = DCNv3(8, 2, scale).double()
    x = torch.randn(1, 4, 5, 8, dtype=torch.float64)
    local = nn.functional.conv2d(
        x.permute(0, 3, 1, 2), dcn.dw_conv[0].weight, dcn.dw_conv[0].bias, padding=1, groups=8
    ).permute(0, 2, 3, 1)
    local = nn.functional.gelu(nn.functional.layer_norm(local, (8,), eps=1e-6))
    offsets = dcn.offset(local).reshape(4, 5, 2, 9, 2)
    weights = dcn.mask(local).reshape(4, 5, 2, 9).softmax(-1)
    value = dcn.input_proj(x).reshape(4, 5, 2, 4)
    expected = torch.zeros(4, 5, 2, 4, dtype=torch.float64)
    for row in range(4):
        for column in range(5):
            for group in range(2):
                for k in range(9):
                    dx, dy = offsets[row, column, group, k].tolist()
                    at = (column + scale * (k // 3 - 1 + dx), row + scale * (k % 3 - 1 + dy))
                    sample = bilinear(value[:, :, group], *at)
                    expected[row, column, group] += weights[row, column, group, k] * sample
    torch.testing.assert_close(dcn(x), dcn.output_proj(expected.reshape(1, 4, 5, 8)))


@torch.no_grad()
@pytest.mark.parametrize("post_norm", [False, True])
def test_blocks_and_levels_are_those_of_the_paper(post_norm: bool) -> None:
    torch.manual_seed(0)
    model = InternImage(**SMALL, post_norm=post_norm, layer_scale=0.5, out_indices=(1, 3)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    image = torch.randn(2, 3, 70, 90)
    x, levels = model.patch_embed(image), {}
    for i, level in enumerate(model.levels):
        for block in level["blocks"]:
            for part, norm, gamma in (
                (block.dcn, block.norm1, block.gamma1),
                (block.mlp, block.norm2, block.gamma2),
            ):
                x = x + gamma * (norm(part(x)) if post_norm else part(norm(x)))
        if not post_norm:
            x = level["norm"](x)
        levels[f"p{i}"] = x.permute(0, 3, 1, 2)
        if i < 3:
            x = level["downsample"](x)
    features = model(image)
    assert list(features) == list(model.output_shape()) == ["p1", "p3"]
    for name, shape in model.output_shape().items():
        torch.testing.assert_close(features[name], levels[name])
        sides = (-(-70 // shape.stride), -(-90 // shape.stride))
        assert features[name].shape == (2, shape.channels, *sides)


def test_parameters_have_the_authors_names() -> None:
    keys = set(InternImage(**SMALL, layer_scale=1.0).state_dict())
    ends = ("weight", "bias")
    expected = {
        f"patch_embed.{p}.{e}" for p in ("conv1", "norm1.1", "conv2", "norm2.1") for e in ends
    }
    for level, depth in enumerate(SMALL["depths"]):
        for block in range(depth):
            name = f"levels.{level}.blocks.{block}"
            linears = ("offset", "mask", "input_proj", "output_proj", "dw_conv.0", "dw_conv.1.1")
            inside = [f"dcn.{p}" for p in linears] + ["norm1.0", "norm2.0", "mlp.fc1", "mlp.fc2"]
            expected |= {f"{name}.{p}.{e}" for p in inside for e in ends}
            expected |= {f"{name}.gamma1", f"{name}.gamma2"}
        expected |= {f"levels.{level}.norm.0.{e}" for e in ends}
        if level < 3:
            names = ("conv.weight", "norm.1.weight", "norm.1.bias")
            expected |= {f"levels.{level}.downsample.{n}" for n in names}
    assert keys == expected


def test_a_fresh_block_takes_the_mean_of_its_surroundings() -> None:
    model = InternImage(**SMALL)
    dcn = model.levels[0]["blocks"][0].dcn
    x = torch.randn(1, 5, 5, 16)
    around = dcn.input_proj(x)[:, 1:4, 1:4].mean((1, 2))
    torch.testing.assert_close(dcn(x)[:, 2, 2], dcn.output_proj(around))


def test_blocks_computed_again_have_the_same_gradients() -> None:
    image, gradients, runs = torch.randn(1, 3, 32, 32), [], []
    for again in (False, True):
        torch.manual_seed(0)
        model, calls = InternImage(**SMALL, with_cp=again).train(), []
        model.levels[1]["blocks"][0].register_forward_pre_hook(lambda *_, c=calls: c.append(1))
        sum(x.square().sum() for x in model(image).values()).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
        runs.append(len(calls))
    assert runs == [1, 2]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("option", "key"),
    [(dict(dw_kernel_size=5), "dw_kernel_size"), (dict(norm_layer="BN"), "norm_layer")],
)
def test_what_only_the_largest_models_set_is_refused(option: dict, key: str) -> None:
    with pytest.raises(InputError, match=f"backbone.{key}: InternImage-T to -L"):
        InternImage(**SMALL, **option)
