import runpy

import pytest
from detectron2.config import LazyCall, instantiate
from fvcore.common.param_scheduler import MultiStepParamScheduler

from detrex.config import config_root, get_config
from detrex.config.lengths import resolve_schedule
from detrex.utils.errors import InputError


def config(multiplier=None, **train):
    cfg = get_config("common/train.py")
    cfg.lr_multiplier = multiplier or get_config("common/coco_schedule.py").lr_multiplier_12ep
    cfg.train.update(train)
    return cfg


@pytest.mark.parametrize(
    "max_iter, eval_period, expected",
    [
        (900, 300, (900, 300)),
        (900, 0, (900, 0)),
        ("12ep", "1ep", (1200, 100)),
        ("0.5 epochs", 0.5, (50, 25)),
        (9e2, "1.5ep", (900, 150)),
        (900, 0.0001, (900, 1)),
    ],
)
def test_lengths_in_iterations_epochs_and_fractions(max_iter, eval_period, expected):
    cfg = config(max_iter=max_iter, eval_period=eval_period, checkpointer=dict(period="2ep"))
    resolve_schedule(cfg, 100)
    assert (cfg.train.max_iter, cfg.train.eval_period) == expected
    assert cfg.train.checkpointer.period == 200


@pytest.mark.parametrize(
    "key, value",
    [
        ("max_iter", 0.5),
        ("max_iter", "12"),
        ("max_iter", True),
        ("max_iter", 0),
        ("eval_period", -1),
        ("eval_period", 1.5),
        ("eval_period", "two epochs"),
    ],
)
def test_other_values_are_named(key, value):
    with pytest.raises(InputError, match=f"train.{key}={value}"):
        resolve_schedule(config(**{key: value}), 100)


def test_epochs_need_a_data_set_whose_size_is_known():
    resolve_schedule(config(), None)
    with pytest.raises(InputError, match="train.max_iter=2ep: .* no dataset.*give iterations"):
        resolve_schedule(config(max_iter="2ep"), None)


def test_fast_dev_run():
    cfg = config(fast_dev_run=dict(enabled=True))
    resolve_schedule(cfg, 100)
    assert (cfg.train.max_iter, cfg.train.eval_period, cfg.train.log_period) == (20, 10, 1)


@pytest.mark.parametrize("length, expected", [(0.25, 0.25), (90, 0.1), ("1ep", 1 / 9), (1, 1)])
def test_warmup(length, expected):
    cfg = config(max_iter=900)
    cfg.lr_multiplier.warmup_length = length
    resolve_schedule(cfg, 100)
    assert cfg.lr_multiplier.warmup_length == pytest.approx(expected)


@pytest.mark.parametrize(
    "milestones", [["11ep", "12ep"], ["11ep"], [11 / 12], [11 / 12, "12ep"], [1100, "12ep"]]
)
def test_milestones_mean_the_same_in_every_unit(milestones):
    scheduler = LazyCall(MultiStepParamScheduler)(values=[1.0, 0.1], milestones=milestones)
    cfg = config(scheduler, max_iter="12ep")
    resolve_schedule(cfg, 100)
    multiplier = instantiate(cfg.lr_multiplier)
    values = [multiplier(i / 1200) for i in range(1200)]
    assert values == [1.0] * 1100 + [0.1] * 100


def test_milestones_behind_the_end_are_never_reached():
    scheduler = LazyCall(MultiStepParamScheduler)(values=[1, 0.1, 0.01], milestones=["1ep", "9ep"])
    cfg = config(scheduler, max_iter="2ep")
    resolve_schedule(cfg, 10)
    multiplier = instantiate(cfg.lr_multiplier)
    assert [multiplier(i / 20) for i in range(20)] == [1] * 10 + [0.1] * 10


@pytest.mark.parametrize(
    "name, epochs, drop", [("12ep", 12, 11), ("24ep", 24, 20), ("36ep", 36, 30), ("50ep", 50, 40)]
)
def test_published_schedules(name, epochs, drop):
    cfg = get_config("common/coco_schedule.py")[f"lr_multiplier_{name}"]
    assert list(cfg.scheduler.milestones) == [drop * 7500, epochs * 7500]
    multiplier = instantiate(cfg)
    last = drop / epochs
    assert [multiplier(w) for w in (0, last - 1e-4, last + 1e-4)] == [1.0, 1.0, pytest.approx(0.1)]


def test_default_coco_scheduler_with_warmup():
    schedule = runpy.run_path(str(config_root() / "common" / "coco_schedule.py"))
    multiplier = instantiate(schedule["default_coco_scheduler"](50, 40, warmup_epochs=1e-3))
    end = 1e-3 / 50  # share of the run
    assert multiplier(0) == pytest.approx(0.001)
    assert multiplier(end / 2) == pytest.approx(0.5005)
    assert multiplier(end) == 1


class Windowed:
    lengths = ("begin", "end")


def test_lengths_that_a_class_declares():
    cfg = config(max_iter=1000)
    node = {"_target_": f"{__name__}.Windowed", "begin": "2ep", "end": None, "other": "2ep"}
    cfg.model = {"inner": [node, {**node, "begin": 0.1, "end": 900}]}
    cfg.dataloader = {"train": {**node, "begin": "two"}}
    with pytest.raises(InputError, match=r"^dataloader.train.begin=two"):
        resolve_schedule(cfg, 100)
    assert cfg.model.inner == [{**node, "begin": 200}, {**node, "begin": 100, "end": 900}]
