"""Plain ViTs of timm under a simple feature pyramid: sizes, learning rates, files."""

from __future__ import annotations

from functools import partial

import pytest
import timm
import torch
from detectron2.config import instantiate
from detectron2.solver.build import get_default_optimizer_params
from omegaconf import DictConfig
from torch import nn

from detrex.checkpoint import load_weights
from detrex.compat.backbone import get_vit_lr_decay_rate
from detrex.modeling.backbone import timm_parts
from detrex.train.optim import param_groups
from tests.models import narrow

STRIDES = {"vit_small_patch14_dinov2": (7, 14, 28), "vit_small_patch16_dinov3": (8, 16, 32)}
EMBEDDINGS = ("cls_token", "reg_token", "pos_embed", "patch_embed.proj")


def pyramid(name: str, **options) -> nn.Module:
    """Two layers of 32 channels under a pyramid of 8."""
    model = DictConfig(timm_parts(name, num_channels=8, **options), flags={"allow_objects": True})
    narrow(model)
    torch.manual_seed(0)
    return instantiate(model.backbone).eval()


@pytest.mark.parametrize("name", STRIDES)
@pytest.mark.parametrize("size", [(70, 90), (111, 33), (112, 224)])
def test_levels_lie_on_whole_patches_of_any_image(name: str, size: tuple[int, int]) -> None:
    backbone, strides = pyramid(name), STRIDES[name]
    assert [s.stride for s in backbone.output_shape().values()] == list(strides)
    image = torch.randn(1, 3, *size)
    whole = nn.functional.pad(image, [0, -size[1] % strides[2], 0, -size[0] % strides[2]])
    with torch.no_grad():
        levels, levels_of_whole = backbone(image), backbone(whole)
    for level, of_whole, stride in zip(
        levels.values(), levels_of_whole.values(), strides, strict=True
    ):
        rows, columns = (-(-side // stride) for side in size)
        assert level.shape == (1, 8, rows, columns)
        torch.testing.assert_close(level, of_whole[..., :rows, :columns], rtol=0, atol=0)


def test_the_pyramid_stands_on_the_last_layer() -> None:
    backbone = pyramid("vit_small_patch14_dinov2")
    image = torch.randn(1, 3, 56, 84)
    network = backbone.net.timm_model.model
    with torch.no_grad():
        tokens = network._pos_embed(network.patch_embed(image))
        for block in network.blocks:
            tokens = block(tokens)
        last = tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 6))
        torch.testing.assert_close(backbone.net(image), {"p1": last})
        torch.testing.assert_close(backbone(image)["p3"], backbone.simfp_3(last))


@pytest.mark.parametrize("name", STRIDES)
def test_layers_learn_the_less_the_further_they_are_from_the_end(name: str) -> None:
    model = nn.ModuleDict({"backbone": pyramid(name), "head": nn.Linear(1, 1)})
    factor = {"blocks.0": 0.7**2, "blocks.1": 0.7, **dict.fromkeys(EMBEDDINGS, 0.7**3)}
    names = {id(p): n for n, p in model.named_parameters()}
    function = partial(get_vit_lr_decay_rate, lr_decay_rate=0.7, num_layers=2)
    for groups in (
        param_groups(model, 2.0, backbone_layer_decay=0.7),
        get_default_optimizer_params(model, base_lr=2.0, lr_factor_func=function),
    ):
        rates = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
        assert rates.keys() == set(names.values())
        for parameter, rate in rates.items():
            inside = parameter.removeprefix("backbone.net.timm_model.model.")
            layer = [f for part, f in factor.items() if inside.startswith(part)]
            assert rate == pytest.approx(2.0 * (layer[0] if layer else 1.0)), parameter


def test_a_classifiers_file_fills_the_network_under_the_pyramid(tmp_path, caplog) -> None:
    sizes = dict(embed_dim=32, depth=2, num_heads=2)
    classifier = timm.create_model("vit_small_patch14_dinov2", num_classes=3, **sizes)
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    model = nn.ModuleDict({"backbone": pyramid("vit_small_patch14_dinov2")})
    with caplog.at_level("INFO"):
        report, _ = load_weights(model, tmp_path / "classifier.pth", strict=False)
    assert "backbone.net.timm_model.model" in caplog.text
    assert all(".simfp_" in name for name in report.missing)
    network = model["backbone"].net.timm_model.model
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, classifier.state_dict()[name], rtol=0, atol=0)
    left_out = {name.split(".")[-2] for name in report.unexpected}
    assert left_out == {"norm", "head"}


def test_blocks_computed_again_have_the_same_gradients() -> None:
    image, gradients = torch.randn(1, 3, 56, 56), []
    for again in (False, True):
        backbone = pyramid("vit_small_patch14_dinov2", use_checkpoint=again).train()
        assert backbone.net.timm_model.model.grad_checkpointing == again
        sum(x.square().sum() for x in backbone(image).values()).backward()
        gradients.append({name: p.grad for name, p in backbone.named_parameters()})
    torch.testing.assert_close(*gradients)
