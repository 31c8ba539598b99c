import functools
import os
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall, LazyConfig, instantiate
from detectron2.layers import ShapeSpec
from omegaconf import OmegaConf

from detrex.config import (
    config,
    config_differences,
    config_yaml,
    get_config,
    get_recipe,
    is_reproducible,
    json_config,
)
from detrex.config.load import load_config
from tests.models import ROOT
from tests.refusals import assert_refused


def test_shipped_files_load_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = get_config("common/train.py").train
    assert train.max_iter == 90000
    train.max_iter = 1
    assert get_config("common/train.py").train.max_iter == 90000  # a fresh copy


def test_a_shipped_config_is_executed_again_when_a_file_has_changed(tmp_path, monkeypatch):
    monkeypatch.setattr("detrex.config.config.config_root", lambda: tmp_path)
    (tmp_path / "base.py").write_text("base = dict(a=1)")
    (tmp_path / "top.py").write_text("from .base import base\nexecuted = base")
    configs = [get_config("top.py") for _ in range(2)]
    assert configs[0] == configs[1] == {"base": {"a": 1}, "executed": {"a": 1}}
    (tmp_path / "base.py").write_text("base = dict(a=2)")
    os.utime(tmp_path / "base.py", ns=(0, 2**62))
    assert get_config("top.py").base.a == 2


def test_a_recipe_has_all_but_the_model():
    path = "common/recipes/coco_12ep.py"
    recipe = get_config(path)
    names = ("dataloader", "lr_multiplier", "optimizer", "train")
    assert get_recipe(path) == tuple(recipe[name] for name in names)


def test_detections_go_where_a_derived_config_says(tmp_path):
    base = "projects/rank_detr/configs/rank_detr_efficientnet_lite0_sample_data.py"
    cfg = LazyConfig.load(str(ROOT / base))
    cfg.train.output_dir = "./output/derived"
    LazyConfig.save(cfg, str(tmp_path / "derived.yaml"))
    cfg = load_config(str(tmp_path / "derived.yaml"), trust_config=True)
    assert cfg.train.output_dir == cfg.dataloader.evaluator.output_dir == "./output/derived"


def test_packaged_configs_come_first(tmp_path, monkeypatch):
    (tmp_path / "configs" / "common").mkdir(parents=True)
    (tmp_path / "configs" / "common" / "train.py").write_text("train = dict(max_iter=3)")
    monkeypatch.setattr(config, "_HERE", tmp_path)
    assert get_config("common/train.py").train.max_iter == 3


def test_our_configs_can_be_saved_and_run_again():
    """One of each project; test_configs.py looks for nameless functions in all files."""
    configs = sorted(Path(__file__).parents[2].glob("projects/*/configs/*.py"))
    first = {config.parent: config for config in reversed(configs)}.values()
    assert len(first) > 15
    assert [config for config in first if not is_reproducible(load_config(str(config)))] == []


def objects():
    return OmegaConf.create(
        {
            "layer": LazyCall(torch.nn.Linear)(in_features="${..width}", out_features=3),
            "width": 5,
            "norm": torch.nn.LayerNorm,
            "make": functools.partial(torch.nn.LayerNorm, eps=1e-6),
            "shapes": {"res3": ShapeSpec(channels=512)},
            "betas": (0.9, 0.999),
        },
        flags={"allow_objects": True},
    )


def test_yaml_gives_the_same_objects_back(tmp_path):
    cfg = objects()
    assert is_reproducible(cfg)
    path = tmp_path / "config.yaml"
    path.write_text(config_yaml(cfg))
    again = LazyConfig.load(str(path))
    assert instantiate(again.layer).weight.shape == (3, 5)
    assert again.norm is torch.nn.LayerNorm
    assert (again.make.func, again.make.keywords) == (torch.nn.LayerNorm, {"eps": 1e-6})
    assert instantiate(again.shapes.res3) == ShapeSpec(channels=512)
    assert json_config(again) == json_config(cfg)


def test_config_with_a_lambda_is_not_reproducible_but_compares():
    first, same, other = objects(), objects(), objects()
    first.rule = same.rule = LazyCall(OmegaConf.create)(f=lambda name: 0.1)
    other.rule = LazyCall(OmegaConf.create)(f=lambda name: 0.2)
    assert not is_reproducible(first)
    assert json_config(first) == json_config(same) != json_config(other)


def test_differences_name_the_dotted_key_and_both_values():
    ours = {"a": {"b": 1, "c": [1]}, "d": "x" * 50}
    other = {"a": {"b": 2, "c": [1]}, "e": None}
    assert list(config_differences(ours, ours)) == []
    assert list(config_differences(ours, other)) == [
        "a.b: 1, not 2",
        f"d: '{'x' * 36}..., not None",
    ]


def existing(name):
    return lambda tmp_path: config.existing_file(tmp_path / name)


def run_folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").touch()
    load_config(str(tmp_path / "run"))


NEAREST = "did you mean "


@pytest.mark.parametrize(
    ("action", "names"),
    [
        (lambda: get_config("common/trian.py"), ["trian.py", NEAREST, "common/train.py"]),
        (existing("setap.py"), ["{}/setap.py not found"]),
        (existing("toolz/demos.py"), ["{}/toolz/demos.py not found"]),
        (existing("demo.yml"), ["{}/demo.yml", NEAREST + "{}/demo.yaml?"]),
        (existing("me.py"), ["{}/me.py", NEAREST + "{}/my.py?"]),
        (existing("configs/demo.py"), ["{}/configs/demo.py", NEAREST + "{}/configs/demi.py?"]),
        (lambda tmp_path: load_config(str(tmp_path / "configs")), ["{}/configs", "folder"]),
        (run_folder, ["{}/run", "folder", "{}/run/config.yaml"]),
    ],
)
def test_a_config_that_is_not_there_is_named_with_the_nearest(request, tmp_path, action, names):
    for name in ("setup.py", "tools/demos.py", "demo.yaml", "configs/demi.py", "my.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    error = assert_refused(request, action, *(name.format(tmp_path) for name in names))
    assert (NEAREST in str(error)) == (NEAREST in "".join(names))
