"""Every shipped training config builds, trains one step of a small model and evaluates."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig

from detrex.config import schema
from detrex.train import load_config
from tests.models import ROOT, image, shipped, tiny, training_configs

DEMO = "projects/rank_detr/configs/rank_detr_efficientnet_lite0_sample_data.py"
TRAINING = [str(path.relative_to(ROOT)) for path in training_configs()]


@pytest.fixture(scope="module", params=TRAINING, ids=lambda c: Path(c).stem)
def config(request) -> str:
    """Of module scope: all tests of a config follow each other."""
    return request.param


def test_config_trains_one_step_and_evaluates(config: str) -> None:
    model = tiny(config)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    batch = [image(64, 96, 2, seed=3), image(96, 64, 0, seed=4)]
    total = sum(model.train()(batch).values())
    total.backward()
    optimizer.step()
    assert math.isfinite(total.item())
    with torch.no_grad():
        results = model.eval()(batch)
    assert len(results) == 2 and len(results[0]["instances"]) > 0


def test_config_is_complete(config: str, monkeypatch) -> None:
    cfg = shipped(config)
    assert {"model", "dataloader", "optimizer", "lr_multiplier", "train"} <= set(cfg)
    stem = Path(config).stem
    command = f"--config-file {config}"
    text = (ROOT / config).read_text()
    assert command in text, "a config opens with its command"
    monkeypatch.setattr(LazyConfig, "load", lambda path: cfg)
    cfg = load_config(str(ROOT / config))
    assert set(cfg.train) == set(schema.defaults("train"))
    folder = "demo" if config == DEMO else stem
    assert cfg.train.output_dir == cfg.dataloader.evaluator.output_dir == f"./output/{folder}"


def test_no_config_has_a_function_without_a_name() -> None:
    """They could not be saved as YAML and run again."""
    files = [*ROOT.glob("configs/**/*.py"), *ROOT.glob("projects/*/configs/**/*.py")]
    assert len(files) > 50
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert not any(isinstance(node, ast.Lambda) for node in ast.walk(tree)), file
