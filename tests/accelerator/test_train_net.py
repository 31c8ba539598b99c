"""Whole runs on an accelerator: what a trainer does besides its steps, and the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detrex.config.load import load_config
from detrex.data.sample.files import make_sample_data
from detrex.train.nan_guard import NonFiniteLoss
from detrex.utils.errors import InputError
from tests.models import ROOT
from tests.simulated_device import count_waits, pinned_memory
from tests.train.runs import CONFIG, assert_equal

ON_SIM = ["train.device=sim", "train.eval_period=4", "train.model_ema.enabled=true"]
ON_SIM += ["train.accumulation_steps=2"]  # gradients are clipped by the tiny config
START = """
import runpy, sys
from tests.simulated_device import simulated_device
sys.argv = sys.argv[1:]
with simulated_device():
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def close(one: dict, other: dict) -> None:
    for name, value in other.items():
        assert value.device.type == "cpu"
        torch.testing.assert_close(one[name], value, rtol=1e-4, atol=1e-5)


@pytest.fixture(params=[True, False], ids=["pinned", "not pinned"])
def pinned(request):
    """Whether memory can be pinned; then the NaN guard looks at a step during the next one."""
    if not request.param:
        yield False
        return
    with pinned_memory():
        yield True


def test_a_run_is_the_cpus_and_resumes_bit_for_bit(tiny_run, pinned) -> None:
    tiny_run("whole", *ON_SIM)
    tiny_run("cpu", *ON_SIM, "train.device=cpu")
    with pytest.raises(NonFiniteLoss, match="loss_class is nan in iteration 6; images: .*png"):
        tiny_run("broken", *ON_SIM, "model.fail_at=6")
    state = torch.load(tiny_run.folder / "broken/nan_state.pth", weights_only=True)
    assert all(x.isfinite().all() for x in state["model"].values())
    tiny_run("broken", *ON_SIM, "--resume")
    whole, resumed, cpu = (tiny_run.checkpoint(name) for name in ("whole", "broken", "cpu"))
    for part in ("model", "trainer", "ema_state", "iteration"):
        assert_equal(resumed[part], whole[part])
    for part in ("model", "ema_state"):
        close(whole[part], cpu[part])
    lines = (tiny_run.folder / "whole/metrics.json").read_text().splitlines()
    assert any("ema_bbox/AP" in json.loads(line) for line in lines)


def test_a_step_of_the_trainer_waits_for_its_flags_only(tiny_run) -> None:
    """The step before's, and every ``log_period`` steps the losses."""
    options = ["train.device=sim", "train.log_period=8", "dataloader.train.num_workers=0"]
    with pinned_memory(), count_waits() as waits:
        tiny_run("a", *options)
    guard = [count for (kind, line), count in waits.items() if "nan_guard.py" in line]
    assert guard == [8]
    assert not any(kind in ("item", "mask", "nonzero") for kind, _ in waits), waits


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision(tiny_run, dtype) -> None:
    options = ["train.device=sim", "train.amp.enabled=true", f"train.amp.dtype={dtype}"]
    tiny_run("a", *options)
    assert all(x.isfinite().all() for x in tiny_run.checkpoint("a")["model"].values())


def test_auto_is_the_accelerator_and_pins_what_can_be_pinned(tiny_run, caplog) -> None:
    with pinned_memory():
        tiny_run("a", "train.device=auto", "train.max_iter=1", "train.checkpointer.period=1")
    cfg = load_config(str(CONFIG), ["train.device=auto"])
    assert cfg.train.device == "auto"
    state = tiny_run.checkpoint("a")
    assert state["iteration"] == 0


def test_an_absent_device_is_one_line_that_lists_what_is_here(tiny_run) -> None:
    for device in ("cuda", "mps", "xpu:1"):
        with pytest.raises(InputError, match=f"train.device={device}: .* one of auto, sim, cpu$"):
            tiny_run("a", f"train.device={device}")


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    make_sample_data(folder / "data", train=6, val=2, size=128)
    return folder


def train_net(sample: Path, *options: str) -> str:
    """What the command line prints with the simulated accelerator."""
    config = ROOT / "projects/rank_detr/configs/rank_detr_efficientnet_lite0_sample_data.py"
    data = [f"dataloader.dataset.{s}.json={sample}/data/{s}.json" for s in ("train", "val")]
    data += [f"dataloader.dataset.{s}.images={sample}/data/{s}" for s in ("train", "val")]
    small = ["train.init_checkpoint=", "dataloader.train.total_batch_size=2"]
    small += [f"dataloader.{part}.num_workers=0" for part in ("train", "test")]
    small += ["model.num_queries_one2one=8", "model.num_queries_one2many=8", "model.k_one2many=1"]
    small += ["model.transformer.two_stage_num_proposals=16"]
    small += [f"model.transformer.{part}.num_layers=1" for part in ("encoder", "decoder")]
    small += ["train.model_ema.enabled=true", "train.accumulation_steps=2", "train.log_period=1"]
    script = str(ROOT / "projects/rank_detr/train_net.py")
    command = [sys.executable, "-c", START, script, "--config-file", str(config), *data, *small]
    command += [f"train.output_dir={sample}/run", "train.device=sim", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=sample, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_command_line_trains_and_evaluates_a_real_model(sample) -> None:
    text = train_net(sample, "train.max_iter=2")
    assert "deformable attention on sim: plain PyTorch" in text
    lines = [json.loads(line) for line in (sample / "run/metrics.json").open()]
    assert {line["iteration"] for line in lines if "total_loss" in line} == {0, 1}
    assert any("ema_bbox/AP" in line for line in lines)
    content = torch.load(sample / "run/model_final.pth", weights_only=True)
    assert all(x.device.type == "cpu" for x in content["model"].values())
