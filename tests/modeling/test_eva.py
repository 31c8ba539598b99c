"""EVA's ViT against detectron2's with the same biases, and its names."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.backbone.vit import ViT
from torch import nn

from detrex.modeling.backbone.eva import EVAViT, SimpleFeaturePyramid
from detrex.utils.errors import InputError

SMALL = dict(img_size=64, embed_dim=32, depth=2, num_heads=2, window_size=3)
SMALL |= dict(window_block_indexes=[0], use_rel_pos=True, mlp_ratio=2.0)


def pair() -> tuple[EVAViT, ViT]:
    """Both with the same weights; the second one's biases are q, 0, v."""
    torch.manual_seed(0)
    eva, vit = EVAViT(**SMALL), ViT(**SMALL)
    for parameter in eva.parameters():
        nn.init.normal_(parameter, std=0.3)
    weights = eva.state_dict()
    for i in range(2):
        q, v = (weights.pop(f"blocks.{i}.attn.{letter}_bias") for letter in "qv")
        weights[f"blocks.{i}.attn.qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
    vit.load_state_dict(weights)  # strict: all other names are detectron2's
    return eva, vit


def test_features_are_those_of_detectron2s_vit_with_biases_of_queries_and_values() -> None:
    eva, vit = pair()
    image = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(eva(image), vit(image))


def test_blocks_computed_again_have_the_same_gradients() -> None:
    image, gradients, runs = torch.randn(1, 3, 64, 64), [], []
    for again in (False, True):
        eva, calls = pair()[0].train(), []
        eva.use_act_checkpoint = again
        eva.blocks[1].register_forward_pre_hook(lambda *_, c=calls: c.append(1))
        eva(image)["last_feat"].square().sum().backward()
        gradients.append({name: p.grad for name, p in eva.named_parameters()})
        runs.append(len(calls))
    assert runs == [1, 2]
    torch.testing.assert_close(*gradients)


def test_under_a_pyramid_with_a_frozen_first_convolution() -> None:
    net = EVAViT(**SMALL, freeze_patch_embed=True)
    pyramid = SimpleFeaturePyramid(net, "last_feat", 8, (2.0, 1.0, 0.5))
    levels = pyramid(torch.randn(1, 3, 70, 90))
    assert [x.shape[-2:] for x in levels.values()] == [(9, 12), (5, 6), (3, 3)]
    frozen = {name for name, p in pyramid.named_parameters() if not p.requires_grad}
    assert frozen == {"net.patch_embed.proj.weight", "net.patch_embed.proj.bias"}


@pytest.mark.parametrize("option", [dict(beit_like_gamma=True), dict(interp_type="beit")])
def test_other_variants_are_refused(option: dict) -> None:
    with pytest.raises(InputError, match="EVAViT has beit_like_gamma=False"):
        EVAViT(**SMALL, **option)
