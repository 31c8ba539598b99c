"""DEIM's recipe against what its released code (09d35d5) computes.

``deim_recipe.json``: learning rates by iteration, sizes of batches, the decay of averaged weights,
which transforms run in which epochs, and what Mosaic and MixUp make of images and boxes.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall as L
from omegaconf import OmegaConf
from torch import nn

from detrex.config import get_config
from detrex.config.lengths import resolve_schedule
from detrex.modeling.ema import ModelEma
from detrex.train.optim import LearningRates
from detrex.train.schedules import FlatCosine
from tests.refusals import refused

GOLDEN = json.loads((Path(__file__).parent / "deim_recipe.json").read_text())


def schedule(case: dict, unit: str) -> FlatCosine:
    """The schedule of a golden case with its lengths in epochs or in fractions of the run."""
    cfg = get_config("common/train.py")
    epochs = case["epochs"]
    flat, final = case["flat_epochs"], case["no_aug_epochs"]
    if unit == "epochs":
        flat, final = f"{flat}ep", f"{final}ep"
    else:
        flat, final = flat / epochs, final / epochs
    node = L(FlatCosine)(max_iter="${train.max_iter}", warmup=case["warmup_iter"])
    node.update(flat=flat, final=final, lowest=case["lr_gamma"])
    cfg.lr_multiplier = node
    cfg.train.max_iter = f"{epochs}ep"
    resolve_schedule(cfg, case["iterations_per_epoch"])
    return FlatCosine(**{k: v for k, v in cfg.lr_multiplier.items() if k != "_target_"})


@pytest.mark.parametrize("unit", ["epochs", "fractions"])
@pytest.mark.parametrize("name", GOLDEN["schedule"])
def test_learning_rates(name: str, unit: str) -> None:
    case = GOLDEN["schedule"][name]
    total = case["epochs"] * case["iterations_per_epoch"]
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in case["base_lrs"]]
    optimizer = torch.optim.SGD(groups)
    rates = LearningRates(optimizer, schedule(case, unit), total)
    for iteration, expected in zip(case["iterations"], case["lr"], strict=True):
        rates.load_state_dict({"last_epoch": iteration})
        actual = [group["lr"] for group in optimizer.param_groups]
        expected = expected if isinstance(expected, list) else [expected]
        assert actual == pytest.approx(expected, rel=1e-6, abs=1e-18), iteration


def test_a_schedule_that_is_longer_than_its_run_is_refused() -> None:
    with refused("lr_multiplier", "flat=80", "final=30", "train.max_iter=100"):
        FlatCosine(100, 5, 80, 30)


def test_decay_and_averages() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    model.double()
    ema = ModelEma(model, decay=0.9999, warmup=2000)
    for i in range(1, 5001):
        nn.init.constant_(model.weight, math.sin(0.01 * i))
        ema.update(model, i)
        if golden := GOLDEN["ema"].get(str(i)):
            assert 0.9999 * (1 - math.exp(-i / 2000)) == pytest.approx(golden["decay"], rel=1e-8)
            expected = golden["average_of_sin_0_01_i"]
            assert ema.averages["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_sizes_of_batches() -> None:
    model = get_config("../projects/rt_detr/configs/models/rtdetr_r50vd.py").model
    assert sorted(OmegaConf.to_container(model.train_sizes)) == sorted(GOLDEN["scales"])
