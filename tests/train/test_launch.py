"""The command line in processes of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detrex.train import cli
from detrex.train.launch import Machines, check_devices, launch
from tests.refusals import refused
from tests.train.runs import assert_equal

ROOT = Path(__file__).parents[2]
TOOL = str(ROOT / "tools" / "train_net.py")


def call(*command, cwd="/"):
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**env, "OMP_NUM_THREADS": "1"},
        timeout=300,  # many times what it takes on an idle machine
    )


STARTERS = {
    "spawned": [TOOL, "--num-gpus", "2"],
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", TOOL],
}


@pytest.mark.parametrize("starter", STARTERS.values(), ids=STARTERS)
def test_two_processes_equal_one_with_the_same_total_batch(tiny_run, starter):
    options = ["train.model_ema.enabled=true", "train.eval_period=3"]
    tiny_run("one", *options)
    result = call(*starter, *tiny_run.args("two", *options))
    assert result.returncode == 0, result.stderr
    one, two = tiny_run.checkpoint("one"), tiny_run.checkpoint("two")
    for name, value in one["ema_state"].items():
        torch.testing.assert_close(two["ema_state"][name], value, rtol=1e-5, atol=1e-6)
    metrics = [
        [json.loads(line) for line in (tiny_run.folder / name / "metrics.json").open()]
        for name in ("one", "two")
    ]
    for first, second in zip(*metrics, strict=True):
        for key in {"loss_class", "loss_bbox", "bbox/AP", "lr"} & first.keys():
            assert second[key] == pytest.approx(first[key], rel=1e-5)
    assert sum("bbox/AP" in m for m in metrics[0]) == 3


@pytest.mark.parametrize("starter", STARTERS.values(), ids=STARTERS)
def test_finished_process_cannot_fail_in_the_interpreters_finalization(tiny_run, starter):
    trap = ["model.fail_at=3", "model.fail_rank=1", "model.fail_how=trap", "train.log_period=3"]
    result = call(*starter, *tiny_run.args("a", *trap))
    assert result.returncode == 0, result.stderr
    assert tiny_run.checkpoint("a")["iteration"] == 7


def test_failure_of_one_process_ends_all_with_its_one_line(tiny_run):
    failure = ["model.fail_at=3", "model.fail_rank=1", "train.eval_period=1"]
    result = call(TOOL, "--num-gpus", "2", *tiny_run.args("a", *failure))
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: loss_class is nan in iteration 3; images: ")
    assert (tiny_run.folder / "a" / "nan_state.rank1.pth").exists()


def test_project_launcher_from_another_folder(tmp_path):
    config = ROOT / "projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py"
    result = call(
        str(ROOT / "projects/rank_detr/train_net.py"),
        *("--config-file", str(config), "train.max_itr=3", "--num-gpus", "8"),
        cwd=tmp_path,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "error: override 'train.max_itr=3': the config has no key 'train.max_itr'; "
        "did you mean train.max_iter?\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "preparation, message",
    [
        ("sys.modules['detectron2'] = None", "detectron2 is missing"),
        (
            "m = sys.modules['detrex'] = types.ModuleType('detrex'); m.__file__ = '/x/detrex/a.py'",
            f"/x/detrex/a.py shadows {ROOT / 'detrex'}",
        ),
    ],
)
def test_unusable_environment_is_one_line(preparation, message):
    code = f"import runpy, sys, types; {preparation}; runpy.run_path({TOOL!r}, run_name='__main__')"
    result = call("-c", code)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and message in line


def test_a_signal_during_the_imports_ends_with_the_status_of_a_stopped_run():
    code = f"""
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "detectron2":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Finder())
runpy.run_path({TOOL!r}, run_name="__main__")
"""
    result = call("-c", code)
    assert (result.returncode, result.stderr) == (75, "")


@pytest.mark.parametrize(
    ("gpus", "device", "processes", "names"),
    [
        (0, "cuda", 1, ["train.device=cuda", "auto, cpu"]),
        (4, "cuda", 8, ["--num-gpus 8", "4 GPUs"]),
        (4, "cpu", 0, ["--num-gpus 0"]),
        (2, "cuda:2", 1, ["train.device=cuda:2"]),
        (2, "cuda:1", 2, ["train.device=cuda:1"]),
    ],
)
def test_processes_that_have_no_gpu_are_refused(monkeypatch, gpus, device, processes, names):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with refused(*names):
        check_devices(device, processes)


def test_gpus_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_devices("cpu", 64)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    check_devices("cuda", 4)


def test_one_process_computes_on_the_gpu_it_is_given(monkeypatch):
    seen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", seen.append)
    launch(seen.append, ("run",), Machines(), "cuda:1")
    launch(seen.append, ("run",), Machines(), "cuda")
    assert_equal(seen, [1, "run", "run"])


def test_several_machines_need_an_address():
    with refused("--dist-url"):
        launch(print, (), Machines(processes=2, count=2), "cpu")


def test_the_config_is_loaded_once_in_each_process(tiny_run, monkeypatch):
    calls = []
    launcher = sys.modules["detrex.train.launch"]
    monkeypatch.setattr(launcher, "launch", lambda function, args, *_: calls.append(args))
    monkeypatch.setattr(cli, "outlive_readers", lambda: None)
    monkeypatch.setattr(cli.atexit, "register", lambda *_: None)
    for count in ("1", "2"):
        cli.main([*tiny_run.args("a"), "--num-gpus", count])
    (_, config), (_, nothing) = calls
    assert config.train.output_dir == str(tiny_run.folder / "a") and nothing is None


def test_one_process_is_this_one():
    seen = []
    launch(seen.append, (3,), Machines(), "cpu")
    assert_equal(seen, [3])
