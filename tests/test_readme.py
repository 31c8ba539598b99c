"""What the README shows exists and runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf

from tests import models

README = (models.ROOT / "README.md").read_text()


def test_every_config_named_in_the_readme_exists() -> None:
    named = set(re.findall(r"[\w/=]+/configs/[\w/=]+\.py", README))
    assert len(named) > 15
    missing = [
        n for n in named if not any((models.ROOT / r / n).is_file() for r in ("", "projects"))
    ]
    assert not missing


@pytest.mark.parametrize("path", models.training_configs(), ids=lambda p: p.stem)
def test_every_shipped_config_is_in_a_table(path: Path) -> None:
    project = path.relative_to(models.ROOT / "projects").parts[0]
    tables = README + (models.ROOT / "projects" / project / "README.md").read_text()
    assert re.search(rf"\b{re.escape(path.stem)}\b", tables)


def test_every_switch_in_the_readme_is_a_key() -> None:
    cfg = models.load(models.RANK_DETR, {})
    keys = re.findall(r"`((?:model|train|dataloader|optimizer)\.[\w.]+)", README)
    assert len(keys) > 20
    # arguments that the config does not spell out
    optional = {"dataloader.evaluator.per_class", "dataloader.evaluator.diagnose"}
    optional |= {"dataloader.train.mapper.image_backend", "model.groups"}
    for key in set(keys) - optional:
        parent, _, leaf = key.rpartition(".")
        assert leaf in OmegaConf.select(cfg, parent), key


def test_adding_a_method_as_shown_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = README.split("## Add a method")[1].split("\n## ")[0]
    code, config = re.findall(r"```python\n(.*?)```", section, re.S)
    folder = tmp_path / "projects" / "mean_detr"
    folder.mkdir(parents=True)
    (folder / "modeling.py").write_text(code)
    (folder / "mean_detr_r50_12ep.py").write_text(config)
    ours = models.ROOT / "projects"
    for project in ("h_deformable_detr", "deformable_detr"):
        (folder.parent / project).symlink_to(ours / project)
    monkeypatch.syspath_prepend(tmp_path)
    model = LazyConfig.load(str(folder / "mean_detr_r50_12ep.py")).model
    models.shrink(model)
    detector = instantiate(model)
    assert type(detector.transformer.decoder).__name__ == "MeanDecoder"
    batch = [models.image(64, 64, 2)]
    torch.manual_seed(0)
    losses = detector.train()(batch)
    monkeypatch.setattr(type(detector.transformer.decoder), "after_layer", lambda s, i, q, x: q)
    plain = detector(batch)
    assert torch.equal(losses["loss_class_0"], plain["loss_class_0"])
    assert not torch.equal(losses["loss_class"], plain["loss_class"])
