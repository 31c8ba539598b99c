"""configs/common holds upstream's defaults for whoever uses them as they are; our recipes say what
they need."""

from __future__ import annotations

import sys

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from torch import nn

from detrex.config import get_config
from tests.models import ROOT

RECIPES = sorted((ROOT / "configs/common/recipes").glob("*.py"))


def test_training_is_not_clipped_unless_a_config_says_so() -> None:
    clip = get_config("common/train.py").train.clip_grad
    assert clip == {"enabled": False, "params": {"max_norm": 0.1, "norm_type": 2}}


def test_optimizers() -> None:
    fragments = get_config("common/optim.py")
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    for name, expected in {
        "AdamW": (1e-4, 0.1, "betas", (0.9, 0.999)),
        "SGD": (0.02, 1e-4, "momentum", 0.9),
    }.items():
        fragments[name].params.model = model
        optimizer = instantiate(fragments[name])
        assert type(optimizer) is getattr(torch.optim, name)
        lr, decay, key, value = expected
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        weight, norm = groups[id(model[0].weight)], groups[id(model[1].weight)]
        assert (weight["lr"], weight["weight_decay"], weight[key]) == (lr, decay, value)
        assert (norm["lr"], norm["weight_decay"]) == (lr, 0.0)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_our_recipes_clip_gradients_and_decay_weights(path) -> None:
    recipe = LazyConfig.load(str(path))
    assert recipe.train.clip_grad.enabled and recipe.train.clip_grad.params.max_norm == 0.1
    assert recipe.optimizer.weight_decay == (1.25e-4 if path.stem == "d_fine" else 1e-4)


def rates(lr_multiplier, iterations: list[int], total: int) -> list[float]:
    schedule = instantiate(lr_multiplier)
    return [schedule(iteration / total) for iteration in iterations]


@pytest.mark.parametrize(
    ("times", "drops"),
    [
        (1, (60000, 80000)),
        (2, (120000, 160000)),
        (3, (210000, 250000)),
        (6, (480000, 520000)),
        (9, (750000, 790000)),
    ],
)
def test_schedules_of_detectron2(times: int, drops: tuple[int, int]) -> None:
    schedule = get_config("common/coco_schedule.py")[f"lr_multiplier_{times}x"]
    iterations = [0, 500, 1000, drops[0] - 1, drops[0] + 1, drops[1] - 1, drops[1] + 1]
    expected = [0.001, 0.5005, 1, 1, 0.1, 0.1, 0.01]
    assert rates(schedule, iterations, times * 90000) == pytest.approx(expected)


@pytest.mark.parametrize(("epochs", "drop"), [(12, 11), (24, 20), (36, 30), (50, 40)])
def test_schedules_with_a_warmup(epochs: int, drop: int) -> None:
    """Over a thousandth of an epoch, 7.5 iterations."""
    schedule = get_config("common/coco_schedule.py")[f"lr_multiplier_{epochs}ep_warmup"]
    found = rates(schedule, [0, 4, 8, drop * 7500 - 1, drop * 7500 + 1], epochs * 7500)
    assert found == pytest.approx([0.001, 0.001 + 0.999 * 4 / 7.5, 1, 1, 0.1])


def test_schedules_of_any_kind(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "configs/common"))
    import common_schedule as schedules

    total, warm = 1000, dict(num_updates=1000, warmup_steps=100)
    expected = {
        "multistep": (dict(values=[1.0, 0.1], milestones=[900], **warm), (1, 1, 0.1)),
        "step": (dict(values=[1.0, 0.5], **warm), (1, 0.5, 0.5)),
        "cosine": (dict(start_value=1.0, end_value=0.0, **warm), (0.9045, 0.5, 0.0062)),
        "linear": (dict(start_value=1.0, end_value=0.0, **warm), (0.8, 0.5, 0.05)),
        "constant": (dict(value=1.0, **warm), (1, 1, 1)),
        "exponential": (dict(start_value=1.0, decay=0.01, **warm), (0.3981, 0.1, 0.0126)),
    }
    for kind, (arguments, values) in expected.items():
        schedule = getattr(schedules, f"{kind}_lr_scheduler")(**arguments)
        assert rates(schedule, [200, 500, 950], total) == pytest.approx(values, abs=1e-4), kind
        assert rates(schedule, [0], total)[0] < 0.0011
    gamma = dict(base_value=1.0, num_decays=3, gamma=0.1, **warm)
    schedule = schedules.step_lr_scheduler_with_fixed_gamma(**gamma)
    assert rates(schedule, [200, 300, 600, 999], total) == pytest.approx([1, 0.1, 0.01, 0.001])
    sys.modules.pop("common_schedule")


def test_data() -> None:
    dataloader = get_config("common/data/coco.py").dataloader
    assert dataloader.train.dataset.names == "coco_2017_train"
    assert (dataloader.train.total_batch_size, dataloader.test.dataset.filter_empty) == (16, False)
    assert dataloader.test.mapper.image_format == "RGB"
    assert dataloader.evaluator.dataset_name == "coco_2017_val"
    mapper = instantiate(dataloader.train.mapper)
    assert not mapper.use_instance_mask and mapper.is_train
    constants = get_config("common/data/constants.py").constants
    assert constants.imagenet_rgb256_mean == constants.imagenet_bgr256_mean[::-1]
    assert constants.imagenet_rgb256_std == [58.395, 57.12, 57.375]
