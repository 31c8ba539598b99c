import copy
import logging

import pytest
import torch
from torch import nn

from detrex.config import get_config
from detrex.train.optim import build_optimizer, freeze, match_layout, param_groups
from detrex.utils.errors import InputError
from tests.train.tiny import TinyDetector

PUBLISHED = [
    dict(names=["backbone"], factor=0.1),
    dict(names=["reference_points", "sampling_offsets"], factor=0.1),
]


def by_name(model, optimizer):
    """Parameter name -> (lr, weight decay)."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }


def config(name):
    return get_config("common/optim.py")[name]


def test_published_recipe_gives_every_parameter_its_lr_and_decay():
    model = TinyDetector()
    cfg = get_config("common/train.py")
    cfg.optimizer = config("AdamW_deformable")
    optimizer = build_optimizer(cfg, model)
    slow, fast = (pytest.approx(2e-5), 1e-4), (2e-4, 1e-4)
    assert by_name(model, optimizer) == {
        "backbone.weight": slow,
        "backbone.bias": slow,
        "norm.weight": fast,
        "norm.bias": fast,
        "reference_points.weight": slow,
        "reference_points.bias": slow,
        "class_embed.weight": fast,
        "class_embed.bias": fast,
    }
    assert len(optimizer.param_groups) == 2
    assert optimizer.defaults["betas"] == (0.9, 0.999)


@pytest.mark.parametrize("given", [{}, {"fused": False}, {"foreach": True}])
def test_kernel_is_the_fused_one_unless_the_config_chooses(given):
    cfg = get_config("common/train.py")
    cfg.optimizer = {**config("AdamW_deformable"), **given}
    assert build_optimizer(cfg, TinyDetector()).defaults["fused"] == (
        {} == given or given.get("fused")
    )


def test_averages_of_another_memory_layout_train_alike():
    torch.manual_seed(0)
    start, grads = torch.randn(4, 3, 2, 2), torch.randn(6, 4, 3, 2, 2)

    def train(weight, state=None):
        optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
        if state:
            optimizer.load_state_dict(state)
            match_layout(optimizer)
        for grad in grads[:3] if state is None else grads[3:]:
            weight.grad = torch.empty_like(weight).copy_(grad)
            optimizer.step()
        return optimizer.state_dict()

    plain = torch.nn.Parameter(start.clone())
    state = copy.deepcopy(train(plain))
    resumed = torch.nn.Parameter(plain.detach().to(memory_format=torch.channels_last))
    train(plain, copy.deepcopy(state))
    train(resumed, state)
    torch.testing.assert_close(resumed, plain.detach().to(memory_format=torch.channels_last))


def test_upstream_default_has_one_lr_and_no_decay_on_norms():
    model = TinyDetector()
    cfg = get_config("common/train.py")
    cfg.optimizer = config("AdamW")
    groups = by_name(model, build_optimizer(cfg, model))
    assert groups.pop("norm.weight") == groups.pop("norm.bias") == (1e-4, 0.0)
    assert set(groups.values()) == {(1e-4, 0.1)}


def test_first_matching_rule_wins_and_shared_parameters_match_by_any_name():
    model = TinyDetector()
    rules = [dict(names=["decoder"], factor=0.5), dict(names=["class_embed", "norm"], factor=3)]
    optimizer = torch.optim.SGD(param_groups(model, 1.0, rules, weight_decay_norm=0.0), lr=9)
    groups = by_name(model, optimizer)
    assert groups["class_embed.weight"] == (0.5, 0)
    assert groups["norm.bias"] == (3.0, 0.0)
    assert groups["backbone.bias"][0] == 1.0


def test_frozen_parameters_are_left_out_but_count_as_matched():
    model = TinyDetector()
    model.backbone.requires_grad_(False)
    groups = param_groups(model, 1.0, [dict(names=["backbone"], factor=0.1)])
    assert {group["lr"] for group in groups} == {1.0}
    assert sum(len(group["params"]) for group in groups) == 6


def test_rule_that_matches_nothing_is_an_error_with_the_parameters_names():
    with pytest.raises(InputError, match=r"\['bakbone'\].*backbone.bias, .*norm.weight"):
        param_groups(TinyDetector(), 1.0, [dict(names=["bakbone"], factor=0.1)])
    param_groups(TinyDetector(), 1.0, PUBLISHED)  # one of a rule's names is enough


class Backbone(nn.Module):
    """Named as detectron2's ResNets: a stem, then blocks; then a norm of the output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleDict({"conv1": nn.Linear(1, 1), "norm": nn.LayerNorm(1)})
        self.res2 = nn.ModuleList(nn.Linear(1, 1) for _ in range(2))
        self.res3 = nn.ModuleList([nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))])
        self.norm = nn.LayerNorm(1)


def test_learning_rates_fall_from_layer_to_layer_of_the_backbone():
    model = nn.ModuleDict({"backbone": Backbone(), "head": nn.Linear(1, 1)})
    rules = [dict(names=["backbone"], factor=0.1)]
    groups = param_groups(model, 2.0, rules, backbone_layer_decay=0.5)
    found = {n: lr for n, (lr, _) in by_name(model, torch.optim.SGD(groups, lr=9)).items()}
    assert found.pop("head.weight") == found.pop("head.bias") == 2.0
    depth = {"stem": 4, "res2.0": 3, "res2.1": 2, "res3.0": 1, "norm": 0}
    for name, lr in found.items():
        (layer,) = (d for part, d in depth.items() if name.startswith(f"backbone.{part}."))
        assert lr == pytest.approx(2.0 * 0.1 * 0.5**layer), name


def test_freezing_by_parts_of_names_and_what_cannot_be_meant():
    model = TinyDetector()
    freeze(model, ["backbone", "norm.weight"])
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"backbone.weight", "backbone.bias", "norm.weight"}
    with pytest.raises(InputError, match=r"train.freeze: none of \['bakbone'\] is part of.*norm"):
        freeze(TinyDetector(), ["backbone", "bakbone"])
    with pytest.raises(
        InputError, match=r"train.freeze=\['weight', 'bias'\] leaves nothing to train"
    ):
        freeze(TinyDetector(), ["weight", "bias"])
    with pytest.raises(InputError, match=r"train.freeze: .*\[1\]"):
        freeze(TinyDetector(), [1])


def test_a_single_name_needs_no_list():
    model = TinyDetector()
    groups = param_groups(model, 1.0, [dict(names="backbone", factor=0.5)])
    rates = {n: lr for n, (lr, _) in by_name(model, torch.optim.SGD(groups, lr=9)).items()}
    assert {name for name, lr in rates.items() if lr == 0.5} == {"backbone.weight", "backbone.bias"}
    freeze(model, "norm")
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == [
        "norm.weight",
        "norm.bias",
    ]


def test_frozen_batch_norm_uses_and_keeps_its_statistics():
    norms = [nn.BatchNorm1d(2), nn.BatchNorm1d(2)]
    model = nn.Sequential(*norms, nn.Linear(2, 1))
    freeze(model, ["0.weight", "0.bias"])
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)) + 3
    model.train()(x)
    assert torch.equal(norms[0].running_mean, torch.zeros(2))
    assert not torch.equal(norms[1].running_mean, torch.zeros(2))
    torch.testing.assert_close(model.train()[0](x), x / (1 + norms[0].eps) ** 0.5)


def inert(lr=1e-4):
    cfg = get_config("common/train.py")
    cfg.optimizer = config("AdamW")
    cfg.optimizer.params.lr_factor_func = lambda name: 0.1 if "backbone" in name else 1
    cfg.optimizer.lr = lr
    return cfg


def test_inert_values_of_upstream_train_as_written_with_one_warning(caplog):
    model = TinyDetector()
    with caplog.at_level(logging.WARNING):
        groups = by_name(model, build_optimizer(inert(), model))
    assert groups["backbone.weight"][0] == pytest.approx(1e-5)
    assert groups["reference_points.weight"][0] == 1e-4
    assert [r.getMessage().endswith(model.published_optimizer) for r in caplog.records] == [True]


@pytest.mark.parametrize("cfg, model", [(inert(2e-4), TinyDetector()), (inert(), nn.Linear(2, 2))])
def test_other_values_and_other_models_are_not_warned_about(cfg, model, caplog):
    with caplog.at_level(logging.WARNING):
        build_optimizer(cfg, model)
    assert not caplog.records
