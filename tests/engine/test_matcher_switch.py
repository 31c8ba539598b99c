import logging

import pytest
from omegaconf import OmegaConf

from detrex.engine.matcher_switch import (
    keep_matcher_switch,
    resolve_matcher_switch,
    switch_values,
)
from detrex.utils.errors import InputError


class Matcher:
    def __init__(self, matcher_change_iter=67500):
        self.matcher_change_iter = matcher_change_iter


class Criterion:
    def __init__(self, matcher):
        self.matcher = matcher


def config(fraction, max_iter=1000, **matcher):
    target = f"{__name__}."
    matcher = {"_target_": f"{target}Matcher", **matcher}
    return OmegaConf.create(
        {
            "model": {"criterion": {"_target_": f"{target}Criterion", "matcher": matcher}},
            "train": {"matcher_change_fraction": fraction, "max_iter": max_iter},
        }
    )


@pytest.mark.parametrize(
    "matcher", [{}, {"matcher_change_iter": None}, {"matcher_change_iter": 67500}]
)
def test_fraction_becomes_iterations_wherever_they_are_accepted(matcher):
    cfg = config(0.75, 1001, **matcher)
    resolve_matcher_switch(cfg)
    assert switch_values(cfg) == [751]
    assert cfg.train.matcher_change_fraction is None  # the saved config says it once


@pytest.mark.parametrize(
    "cfg, overrides",
    [
        (config(0.75, matcher_change_iter=202500), []),
        (
            config(0.75, matcher_change_iter=67500),
            ["model.criterion.matcher.matcher_change_iter=67500"],
        ),
    ],
)
def test_both_set_is_an_error(cfg, overrides):
    with pytest.raises(InputError, match="both set"):
        resolve_matcher_switch(cfg, overrides)


@pytest.mark.parametrize("fraction", [1.5, -0.1, "12ep"])
def test_fraction_out_of_range(fraction):
    with pytest.raises(InputError, match=f"matcher_change_fraction={fraction}"):
        resolve_matcher_switch(config(fraction))


def test_model_without_a_switch():
    cfg = config(0.75)
    cfg.model = {"_target_": f"{__name__}.Criterion", "matcher": None}
    with pytest.raises(InputError, match="no model part takes matcher_change_iter"):
        resolve_matcher_switch(cfg)


def test_iterations_that_are_never_reached_are_reported(caplog):
    with caplog.at_level(logging.WARNING):
        resolve_matcher_switch(config(None, 67501, matcher_change_iter=67500))
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        resolve_matcher_switch(config(None, 1000, matcher_change_iter=67500))
    assert "not reached in 1000 iterations" in caplog.text


def test_resumed_run_keeps_its_switch_and_says_so(caplog):
    cfg = config(0.75, 2000)
    resolve_matcher_switch(cfg)
    with caplog.at_level(logging.WARNING):
        keep_matcher_switch(cfg, [750])
    assert switch_values(cfg) == [750]
    assert "stays 750" in caplog.text and "1500" in caplog.text
