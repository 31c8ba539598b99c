"""A project that was written for upstream trains, saves and evaluates here with its own script."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate

from tests.compat.mini_fork import train_net
from tests.compat.mini_fork.data import two_batches
from tests.modeling.test_criterion import plain_losses

CONFIG = str(Path(train_net.__file__).with_name("config.py"))


def test_losses_weighted_in_place_equal_a_plain_computation() -> None:
    torch.manual_seed(0)
    model = instantiate(LazyConfig.load(CONFIG).model).train()
    batch = two_batches()[0]
    losses = model(batch)
    sum(losses.values()).backward()
    classes, coords, _ = model.outputs(batch)
    targets = model.prepare_targets([x["instances"] for x in batch])
    for layer, suffix in ((0, "_0"), (1, "")):
        plain = plain_losses(model.criterion, classes[layer], coords[layer], targets, "focal_loss")
        for name, factor in (("loss_class", 2.0), ("loss_bbox", 5.0), ("loss_giou", 2.0)):
            assert losses.pop(name + suffix).item() == pytest.approx(factor * plain[name], rel=1e-5)
    assert not losses
    grads = {name: p.grad for name, p in model.named_parameters()}
    assert all(grad is not None for grad in grads.values())


def test_its_script_trains_saves_and_evaluates(tmp_path: Path) -> None:
    options = [f"train.output_dir={tmp_path}"]
    torch.manual_seed(0)
    trainer = train_net.main(["--config-file", CONFIG, *options])
    first, second = trainer.losses
    assert first.keys() == second.keys() and all(v > 0 for v in first.values())
    saved = torch.load(tmp_path / "model_final.pth", weights_only=False)
    weights, averages = saved["model"], saved["ema_state"]
    moved = [k for k, v in weights.items() if not torch.equal(v, averages[k])]
    assert moved  # the averages lag behind
    found = train_net.main(
        ["--config-file", CONFIG, "--eval-only", *options]
        + [f"train.init_checkpoint={tmp_path}/model_final.pth"]
    )
    assert found["bbox"]["detections"] == 8.0
