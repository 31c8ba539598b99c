"""Dilated ResNets, ours and torchvision's."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from detrex.layers.folded_norm import FoldedConv2d, fold_norms
from detrex.modeling.backbone import BasicStem, ResNet, TorchvisionResNet, make_stage
from detrex.modeling.backbone.resnet import BottleneckBlock


@pytest.mark.parametrize(("dilation", "stride"), [(1, 32), (2, 16)])
def test_dilation_keeps_the_resolution_of_the_last_stage(dilation: int, stride: int) -> None:
    stages = make_stage(50, res5_dilation=dilation)
    backbone = ResNet(BasicStem(3, 64, "FrozenBN"), stages, out_features=["res4", "res5"])
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, 64, 96))
    assert features["res4"].shape == (1, 1024, 4, 6)
    assert features["res5"].shape == (1, 2048, 64 // stride, 96 // stride)
    assert backbone.output_shape()["res5"].stride == stride


def test_stages_equal_detectron2s() -> None:
    for depth in (50, 101):
        ours, theirs = make_stage(depth), ResNet.make_default_stages(depth, norm="FrozenBN")
        for stage, reference in zip(ours, theirs, strict=True):
            assert [str(block) for block in stage] == [str(block) for block in reference]
            assert all(isinstance(block, BottleneckBlock) for block in stage)


@pytest.mark.parametrize("dilation", [False, True])
def test_torchvision_features_equal_torchvisions(dilation: bool) -> None:
    torch.manual_seed(0)
    backbone = TorchvisionResNet("resnet50", True, {"layer3": "res4", "layer4": "res5"}, dilation)
    for buffer in backbone.body.layer4.buffers():
        nn.init.uniform_(buffer, 0.5, 1.5)
    model = torchvision.models.resnet50(replace_stride_with_dilation=[False, False, dilation])
    loaded = model.load_state_dict(backbone.body.state_dict(), strict=False)
    assert not loaded.unexpected_keys
    missing = {key for key in loaded.missing_keys if not key.endswith("num_batches_tracked")}
    assert missing == {"fc.weight", "fc.bias"}
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features = backbone.train()(x)  # batch norms stay frozen
        model.eval()
        y = model.layer2(model.layer1(model.maxpool(model.relu(model.bn1(model.conv1(x))))))
        res4 = model.layer3(y)
        res5 = model.layer4(res4)
    for found, expected in ((features["res4"], res4), (features["res5"], res5)):
        atol = 2e-6 * expected.abs().max().item()
        torch.testing.assert_close(found, expected, rtol=2e-6, atol=atol)
    shapes = backbone.output_shape()
    for name, feature in features.items():
        assert shapes[name].channels == feature.shape[1]
        assert shapes[name].stride == 96 // feature.shape[3]


@pytest.mark.parametrize(("train", "count"), [(True, 42), (False, 0)])
def test_stem_and_first_layer_are_frozen(train: bool, count: int) -> None:
    backbone = TorchvisionResNet("resnet50", train)
    trained = [name for name, p in backbone.named_parameters() if p.requires_grad]
    assert len(trained) == count
    assert all(name.split(".")[1] in ("layer2", "layer3", "layer4") for name in trained)


def randomise_norms(model: nn.Module) -> None:
    for norm in model.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            for buffer in norm.buffers():
                nn.init.uniform_(buffer, 0.5, 1.5)


@pytest.mark.parametrize("channels_last", [False, True])
def test_folded_norms_change_neither_values_nor_keys_nor_gradients(channels_last: bool) -> None:
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    stages = [stage[:1] for stage in make_stage(50)[:2]]
    plain = ResNet(BasicStem(3, 64, "FrozenBN"), stages, out_features=["res3"]).freeze(1)
    randomise_norms(plain)
    plain = plain.to(memory_format=layout)
    folded = copy.deepcopy(plain)
    fold_norms(folded)
    assert sum(isinstance(m, FoldedConv2d) for m in folded.modules()) == 9
    assert folded.state_dict().keys() == plain.state_dict().keys()
    assert [n for n, _ in folded.named_parameters()] == [n for n, _ in plain.named_parameters()]
    x = torch.randn(1, 3, 32, 48).to(memory_format=layout)
    found, expected = copy.deepcopy(folded)(x)["res3"], plain(x)["res3"]
    assert found.is_contiguous(memory_format=layout)
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=2e-6 * expected.abs().max().item())
    grads = (
        torch.autograd.grad(out.sin().sum(), [p for p in m.parameters() if p.requires_grad])
        for m, out in ((folded, folded(x)["res3"]), (plain, expected))
    )
    for found, expected in zip(*grads, strict=True):
        atol = 1e-5 * expected.abs().max().item()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=atol)


def test_a_folded_norm_follows_its_buffers() -> None:
    backbone = ResNet(BasicStem(3, 8, "FrozenBN"), [], out_features=["stem"])
    fold_norms(backbone)
    backbone = copy.deepcopy(backbone)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = backbone(x)["stem"]
        backbone.stem.conv1.norm.bias += 1.0
        assert (backbone(x)["stem"] - before).min() > 0.5
