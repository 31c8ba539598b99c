"""Plain ViTs of timm whose tokens stay in windows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detrex.modeling.backbone import WindowedViT
from tests.refusals import refused

SMALL = dict(embed_dim=32, depth=2, num_heads=2, init_values=1.0)
LW = dict(final_norm=False, antialias=False, model_options=dict(SMALL, class_token=False))
MODELS = {  # stride 16 and windows of 4x4, stride 14 and windows of 2x2
    "lw": ("vit_tiny_patch16_224", 4, LW),
    "rf": ("vit_small_patch14_dinov2", 2, dict(model_options=SMALL)),
}


def vit(kind: str, global_indices: tuple[int, ...] = (1,), **options) -> WindowedViT:
    name, windows, others = MODELS[kind]
    torch.manual_seed(0)
    return WindowedViT(name, [0, 1], global_indices, windows, **others, **options).eval()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("size", [(70, 90), (33, 130), (128, 112)])
@torch.no_grad()
def test_levels_lie_on_whole_patches_of_any_image(kind: str, size: tuple[int, int]) -> None:
    backbone = vit(kind)
    stride = backbone.output_shape()["p1"].stride
    step = stride * backbone.num_windows
    pixels = torch.randn(1, 3, *size)
    whole = nn.functional.pad(pixels, [0, -size[1] % step, 0, -size[0] % step])
    levels, levels_of_whole = backbone(pixels), backbone(whole)
    rows, columns = (-(-side // stride) for side in size)
    for name, level in levels.items():
        assert level.shape == (1, 32, rows, columns)
        assert torch.equal(level, levels_of_whole[name][..., :rows, :columns])


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_a_window_sees_others_in_global_blocks_alone(kind: str) -> None:
    backbone = vit(kind)
    step = backbone.stride * backbone.num_windows
    pixels = torch.randn(1, 3, 2 * step, 3 * step)  # windows of 2x3 patches
    changed = pixels.clone()
    changed[..., 0, 0] += 10.0
    levels = zip(backbone(pixels).values(), backbone(changed).values(), strict=True)
    windowed, joined = ((x != y).any(1)[0] for x, y in levels)
    assert windowed[:2, :3].all() and windowed.sum() == 6
    assert joined.float().mean() > 0.9


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_without_windows_it_is_the_models_own_pass(kind: str) -> None:
    """All blocks attend globally, and the image has the size of the position embeddings; a class
    token in each window is more than one, so DINOv2 has a single window here."""
    backbone = vit(kind, global_indices=(0, 1))
    network = backbone.timm_model
    backbone.num_windows = 2 if kind == "lw" else 1  # of 14 and 37 patches a side
    pixels = torch.randn(1, 3, *network.patch_embed.img_size)
    tokens = network._pos_embed(network.patch_embed(pixels))
    for name, block in zip(("p0", "p1"), network.blocks, strict=True):
        tokens = block(tokens)
        level = network.norm(tokens)[:, network.num_prefix_tokens :].transpose(1, 2)
        torch.testing.assert_close(backbone(pixels)[name].flatten(2), level, rtol=1e-4, atol=1e-4)


def test_blocks_computed_again_have_the_same_gradients() -> None:
    pixels, gradients = torch.randn(1, 3, 64, 64), []
    for again in (False, True):
        backbone = vit("lw", use_checkpoint=again).train()
        sum(x.square().sum() for x in backbone(pixels).values()).backward()
        gradients.append({name: p.grad for name, p in backbone.named_parameters()})
    torch.testing.assert_close(*gradients)


def test_what_it_is_not_made_for_is_refused() -> None:
    with refused("eva02_tiny_patch14_224", "register tokens"):
        WindowedViT("eva02_tiny_patch14_224", [0], [], 2)
    with refused("out_indices=[0, 12]", "0 to 11"):
        WindowedViT("vit_tiny_patch16_224", [0, 12], [], 4)
