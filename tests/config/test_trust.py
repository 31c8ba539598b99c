"""Configs of strangers: what they name is built only where it is part of detectors or recipes."""

import functools
import os
import time

import pytest
import yaml
from detectron2.config import LazyCall as L
from detectron2.solver.build import get_default_optimizer_params
from omegaconf import OmegaConf
from torch import nn

from detrex.compat.backbone import get_vit_lr_decay_rate
from detrex.config import config_yaml, trust
from detrex.config.load import load_config
from detrex.config.trust import load_yaml, remember
from detrex.utils.errors import InputError
from tests.models import ROOT

EVIL = {
    "a call": "a: !!python/object/apply:os.system ['touch ran']",
    "an object": "a: !!python/object/new:os.system ['touch ran']",
    "a function's name": "a: !!python/name:os.system",
    "a module": "a: !!python/module:antigravity",
    "a target": "a: {_target_: os.system, command: touch ran}",
    "a target deep down": "a: [{b: {c: [{_target_: subprocess.run, args: touch ran}]}}]",
    "a target by reference": "name: os.system\na: {_target_: '${name}', command: touch ran}",
    "a target that is built": "a: {_target_: {_target_: torch.nn.ReLU}}",
    "through a module of detrex": "a: {_target_: detrex.utils.files.os.system, command: x}",
    "through a class": "a: {_target_: detectron2.config.LazyConfig.load, filename: evil.py}",
    "a function of torch": "a: {_target_: torch.load, f: evil.pth, weights_only: false}",
    "a hub": "a: {_target_: torch.hub.load, repo_or_dir: evil}",
    "a function of detrex": "a: {_target_: detrex.train.main, argv: []}",
    "a function of timm": "a: {_target_: timm.create_model, model_name: 'hf-hub:evil/model'}",
    "a class that compiles": "a: {_target_: torch.utils.benchmark.Timer, stmt: evil}",
    "a module that is no part": "a: {_target_: torch.fx.GraphModule, root: x, graph: y}",
    "a partial": "a: {_target_: functools.partial, func: os.system}",
    "a partial of a command": (
        "a: !!python/object/apply:functools.partial {args: [!!python/name:os.system ''], "
        "state: [!!python/name:os.system '', [touch ran], {}, null]}"
    ),
    "a partial of a text": (
        "a: !!python/object/apply:functools.partial {args: [x], state: [x, [], {}, null]}"
    ),
    "a partial without a state": "a: !!python/object/apply:functools.partial {args: [x]}",
    "an environment variable": "a: ${oc.env:HOME}",
    "within a text": "a: x${oc.env:HOME}",
    "in a key's name": "a: ${b.${oc.env:HOME}}",
    "as a key": "'${oc.env:HOME}': 1",
    "references without end": "a: {b: '${a}'}",
}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Writes config.yaml, in a folder of its own; and a program that configs may try to run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def write(text):
        (tmp_path / "config.yaml").write_text(text)
        return tmp_path / "config.yaml"

    return write


@pytest.mark.parametrize("text", EVIL.values(), ids=EVIL)
def test_what_is_more_than_data_is_refused_before_it_runs(config, text):
    with pytest.raises(InputError, match=r"config\.yaml names code .*--trust-config") as error:
        load_yaml(config(text))
    assert "\n" not in str(error.value) and not os.path.exists("ran")


@pytest.mark.parametrize("name", ["a call", "an object"])
def test_it_runs_if_somebody_says_so_or_has_written_it(config, caplog, name):
    text = EVIL[name]
    load_yaml(config(text), trusted=True)
    assert os.path.exists("ran") and "names code that will run" in caplog.text
    os.remove("ran")
    remember(text)
    load_yaml(config(text))
    assert os.path.exists("ran")
    os.remove("ran")
    with pytest.raises(InputError, match="--trust-config"):  # one byte more
        load_yaml(config(text + "\n"))
    assert not os.path.exists("ran")


def test_references_that_grow_are_stopped(config, monkeypatch):
    monkeypatch.setattr(trust, "MOST", 2000)
    text = "a0: {x: 1, y: 2}\n" + "".join(
        f"a{i}: {{x: '${{a{i - 1}}}', y: '${{a{i - 1}}}'}}\n" for i in range(1, 40)
    )
    with pytest.raises(InputError, match="references without an end"):
        load_yaml(config(text))


def test_references_that_take_long_are_stopped(config, monkeypatch):
    monkeypatch.setattr(trust, "LONGEST", 0.1)
    chain = "".join(f"a{i}: ${{a{i - 1}}}\n" for i in range(1, 20))
    text = f"a0: 1\n{chain}" + "".join(f"b{i}: ${{a19}}\n" for i in range(5000))
    start = time.monotonic()
    with pytest.raises(InputError, match="references without an end"):
        load_yaml(config(text))
    assert time.monotonic() - start < 30


def test_shipped_configs_are_data(config):
    for path in ("rank_detr/configs/rank_detr_r50_two_stage_12ep.py", "rt_detr/configs/"
                 "rtdetr_r50vd_6x_coco.py", "co_detr/configs/co_dino_r50_12ep.py"):  # fmt: skip
        path = ROOT / "projects" / path
        if path.exists():
            text = config_yaml(load_config(str(path)))
            read = load_yaml(config(text))
            assert OmegaConf.to_container(read, resolve=False) == yaml.safe_load(text)


def test_names_of_classes_become_the_classes(config):
    read = load_yaml(config("a: !!python/name:torch.nn.modules.activation.ReLU\nb: ${a}\n"))
    assert read.a is read.b is nn.ReLU
    assert load_yaml(config("a: !!python/tuple [1, 2]\nb: ${train.later}")).a == [1, 2]


def test_partial_calls_of_parts_are_data(config):
    norm = functools.partial(nn.LayerNorm, eps=1e-6)
    rate = functools.partial(get_vit_lr_decay_rate, lr_decay_rate=0.7)
    optimizer = L(get_default_optimizer_params)(lr_factor_func=rate)
    cfg = OmegaConf.create({"norm": norm, "optimizer": optimizer}, flags={"allow_objects": True})
    read = load_yaml(config(config_yaml(cfg)))
    assert read.norm(4).eps == 1e-6
    factor = read.optimizer.lr_factor_func
    assert factor("backbone.net.blocks.11.attn.qkv.weight") == pytest.approx(0.7)


def test_without_a_home_folder_nothing_is_remembered(config, monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME")

    def none(path):
        raise RuntimeError("no home")

    monkeypatch.setattr(trust.Path, "expanduser", none)
    remember(EVIL["a call"])
    with pytest.raises(InputError, match="--trust-config"):
        load_yaml(config(EVIL["a call"]))
