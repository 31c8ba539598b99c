"""One rule: the learning rate is in proportion to the images of an iteration."""

import logging

import pytest

from detrex.config.learning_rate import scale_learning_rate
from detrex.config.load import load_config
from detrex.train.optim import build_optimizer
from tests.models import ROOT, training_configs
from tests.refusals import refused
from tests.train.tiny import TinyDetector

CONFIG = str(ROOT / "tests/train/tiny_config.py")


@pytest.mark.parametrize(("batch", "expected"), [(4, 0.0025), (16, 0.01), (32, 0.02)])
def test_the_rates_of_all_groups_follow_the_batch(batch, expected, caplog):
    settings = [f"dataloader.train.total_batch_size={batch}", "optimizer.reference_batch_size=16"]
    cfg = load_config(CONFIG, settings)
    with caplog.at_level(logging.INFO, "detrex"):
        scale_learning_rate(cfg)
    rates = {group["lr"] for group in build_optimizer(cfg, TinyDetector()).param_groups}
    assert sorted(rates) == pytest.approx([0.1 * expected, expected])
    (line,) = caplog.messages
    for figure in (f"{expected:.4g}", "0.01", "16", str(batch)):
        assert figure in line
    assert load_config(CONFIG, [f"optimizer.lr={cfg.optimizer.lr}"]).optimizer == cfg.optimizer


@pytest.mark.parametrize("settings", [[], ["optimizer.reference_batch_size=null"]])
def test_without_a_reference_the_rate_stays(settings, caplog):
    cfg = load_config(CONFIG, ["dataloader.train.total_batch_size=2", *settings])
    scale_learning_rate(cfg)
    assert cfg.optimizer.lr == 0.01 and not caplog.messages
    build_optimizer(cfg, TinyDetector())


def test_there_must_be_a_rate():
    cfg = load_config(CONFIG, ["optimizer.reference_batch_size=16"])
    cfg.optimizer.pop("lr")
    with refused("optimizer.reference_batch_size=16", "optimizer.lr"):
        scale_learning_rate(cfg)


def test_no_shipped_config_scales_its_rate():
    for path in training_configs():
        assert "reference_batch_size" not in path.read_text()


def test_a_misspelt_reference_is_corrected():
    with refused("optimizer.reference_batch", "optimizer.reference_batch_size"):
        load_config(CONFIG, ["optimizer.reference_batch=16"])
