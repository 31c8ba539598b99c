import logging

import pytest
import torch
from detectron2.config import LazyConfig, instantiate

from detrex.config import get_config
from detrex.config.lengths import keep_matcher_switch, resolve_schedule, switch_values
from detrex.modeling.matcher import HighOrderMatcher
from detrex.utils.errors import InputError
from tests.models import RANK_DETR, ROOT


class Matcher:
    def __init__(self, matcher_change_iter=67500):
        self.matcher_change_iter = matcher_change_iter


class Criterion:
    def __init__(self, matcher):
        self.matcher = matcher


def config(fraction=None, max_iter=1000, **matcher):
    cfg = get_config("common/train.py")
    cfg.train.update(max_iter=max_iter, matcher_change_fraction=fraction)
    matcher = {"_target_": f"{__name__}.Matcher", **matcher}
    cfg.model = {"criterion": {"_target_": f"{__name__}.Criterion", "matcher": matcher}}
    return cfg


@pytest.mark.parametrize(
    "value, expected",
    [(None, None), (0, 0), (900, 900), (0.75, 751), ("9ep", 900), ("0.5 epochs", 50)],
)
def test_the_switch_is_a_length(value, expected):
    cfg = config(max_iter=1001, matcher_change_iter=value)
    resolve_schedule(cfg, 100)
    assert switch_values(cfg) == [expected]


@pytest.mark.parametrize(
    "matcher",
    [
        {},
        {"matcher_change_iter": None},
        {"matcher_change_iter": 67500},
        {"matcher_change_iter": 0.5},
    ],
)
def test_fraction_of_train_holds_wherever_it_is_accepted(matcher):
    cfg = config(0.75, 1001, **matcher)
    resolve_schedule(cfg, 100)
    assert switch_values(cfg) == [751]
    assert cfg.train.matcher_change_fraction is None  # the saved config says it once


@pytest.mark.parametrize(
    "value, overrides",
    [
        (202500, []),
        ("9ep", []),
        (67500, ["model.criterion.matcher.matcher_change_iter=67500"]),
        (0.5, ["model.criterion.matcher.matcher_change_iter=0.5"]),
    ],
)
def test_both_set_is_an_error(value, overrides):
    with pytest.raises(InputError, match="both set"):
        resolve_schedule(config(0.75, matcher_change_iter=value), 100, overrides)


@pytest.mark.parametrize("fraction", [1.5, -0.1, "12ep"])
def test_fraction_out_of_range(fraction):
    with pytest.raises(InputError, match=f"matcher_change_fraction={fraction}"):
        resolve_schedule(config(fraction), 100)


@pytest.mark.parametrize("value", [-1, 1.5, "soon", True])
def test_other_values_are_named(value):
    with pytest.raises(InputError, match=f"matcher_change_iter={value}: give iterations"):
        resolve_schedule(config(matcher_change_iter=value), 100)


def test_model_without_a_switch():
    cfg = config(0.75)
    cfg.model = {"_target_": f"{__name__}.Criterion", "matcher": None}
    with pytest.raises(InputError, match="no model part takes matcher_change_iter"):
        resolve_schedule(cfg, 100)


def test_iterations_that_are_never_reached_are_reported(caplog):
    with caplog.at_level(logging.WARNING):
        resolve_schedule(config(None, 67501, matcher_change_iter=67500), 100)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        resolve_schedule(config(None, 1000, matcher_change_iter=67500), 100)
    assert "not reached in 1000 iterations" in caplog.text


def test_resumed_run_keeps_its_switch_and_says_so(caplog):
    cfg = config(max_iter=2000, matcher_change_iter=0.75)
    resolve_schedule(cfg, 100)
    with caplog.at_level(logging.WARNING):
        keep_matcher_switch(cfg, [750])
    assert switch_values(cfg) == [750]
    assert "stays 750" in caplog.text and "1500" in caplog.text


def cost(matcher):
    """Of one query and one box with the same place: -1 if it is the high-order cost."""
    box, label = torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.tensor([0])
    return matcher.cost(torch.full((1, 1, 1), 30.0), box[None], label, box).item()


@pytest.mark.parametrize("max_iter", [90000, 36])
def test_config_that_nobody_resolved_switches_after_three_quarters(max_iter):
    cfg = LazyConfig.load(str(ROOT / RANK_DETR))
    cfg.train.max_iter = max_iter
    matcher = instantiate(cfg.model.criterion.matcher)
    switch = max_iter * 3 // 4
    assert matcher.matcher_change_iter == switch
    for iteration, is_high_order in ((-1, False), (switch - 1, False), (switch, True)):
        matcher.iter = iteration
        assert (cost(matcher) == pytest.approx(-1, abs=1e-3)) == is_high_order


@pytest.mark.parametrize("value, max_iter", [("9ep", 1000), (0.75, None), (0.75, "12ep")])
def test_length_that_nobody_resolved_ends_a_loop_that_counts(value, max_iter):
    matcher = HighOrderMatcher(matcher_change_iter=value, max_iter=max_iter)
    cost(matcher)  # inference: no iterations are counted
    matcher.iter = 0
    with pytest.raises(ValueError, match=f"matcher_change_iter={value}: give iterations"):
        cost(matcher)
