"""The real command line on real images: train, resume, evaluate, two processes, autograd intact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detrex.checkpoint.efficientnet_lite0 import write_backbone_weights
from detrex.data.sample.files import make_sample_data
from tests.models import ROOT

CONFIG = "projects/rank_detr/configs/rank_detr_efficientnet_lite0_sample_data.py"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    make_sample_data(folder / "data", train=24, val=6, size=160)
    write_backbone_weights(folder / "backbone.pth")
    return folder


def train_net(sample: Path, output: Path, *arguments: str, fails: bool = False) -> str:
    """Run projects/rank_detr/train_net.py from another folder; return what it printed."""
    data = [f"dataloader.dataset.{s}.json={sample}/data/{s}.json" for s in ("train", "val")]
    data += [f"dataloader.dataset.{s}.images={sample}/data/{s}" for s in ("train", "val")]
    settings = ["train.max_iter=4", "train.eval_period=4", "train.checkpointer.period=1"]
    settings += [f"train.output_dir={output}", f"dataloader.evaluator.output_dir={output}"]
    settings += [f"train.init_checkpoint={sample}/backbone.pth", "train.log_period=1"]
    script = ROOT / "projects" / "rank_detr" / "train_net.py"
    command = [sys.executable, str(script), "--config-file", str(ROOT / CONFIG)]
    done = subprocess.run(
        [*command, *data, *settings, *arguments],
        cwd=sample,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    text = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, text
    return text


@pytest.fixture(scope="module")
def finished(sample: Path) -> Path:
    train_net(sample, sample / "run")
    return sample / "run"


def test_a_run_leaves_what_is_needed_to_repeat_it(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {"config.yaml", "run.json", "metrics.json", "last_checkpoint"} <= names
    assert {"model_0000001.pth", "model_final.pth", "coco_instances_results.json"} <= names
    lines = [json.loads(line) for line in (finished / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "total_loss" in line] == [0, 1, 2, 3]
    assert any("bbox/AP" in line for line in lines)
    content = torch.load(finished / "model_final.pth", weights_only=True)
    assert content["metadata"]["format"] == 1
    assert content["metadata"]["classes"] == [str(digit) for digit in range(10)]
    assert content["model"]["class_embed.0.weight"].shape == (10, 256)


def test_resuming_gives_the_uninterrupted_weights(sample: Path, finished: Path) -> None:
    resumed = sample / "resumed"
    resumed.mkdir()
    for name in ("model_0000001.pth", "run.json", "config.yaml"):
        (resumed / name).write_bytes((finished / name).read_bytes())
    (resumed / "last_checkpoint").write_text("model_0000001.pth")
    train_net(sample, resumed, "--resume")
    first = torch.load(finished / "model_final.pth", weights_only=True)["model"]
    second = torch.load(resumed / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_eval_only_repeats_the_score_of_the_run(sample: Path, finished: Path) -> None:
    output = sample / "evaluated"
    final = f"train.init_checkpoint={finished}/model_final.pth"
    text = train_net(sample, output, "--eval-only", final)
    assert "Average Precision" in text
    results = "coco_instances_results.json"
    first, second = (json.loads((folder / results).read_text()) for folder in (finished, output))
    assert first == second


def test_eval_only_refuses_a_backbone(sample: Path, finished: Path) -> None:
    text = train_net(sample, sample / "no", "--eval-only", fails=True)
    assert "error: " in text and "missing" in text and "Traceback" not in text


def test_two_processes_have_the_gradients_of_one(sample: Path, finished: Path) -> None:
    """After one step AdamW's first moment is a tenth of the (clipped) gradient."""
    train_net(sample, sample / "two", "--num-gpus", "2", "train.max_iter=1")
    moments = []
    for file in (finished / "model_0000000.pth", sample / "two/model_final.pth"):
        state = torch.load(file, weights_only=True)["trainer"]["optimizer"]["state"]
        moments.append(torch.cat([s["exp_avg"].flatten() for s in state.values()]))
    one, two = moments
    assert one.norm() > 1e-3
    assert (one - two).norm() <= 1e-4 * one.norm()


def test_misspelt_override_names_the_nearest_key(sample: Path) -> None:
    text = train_net(sample, sample / "no", "model.num_querys_one2one=5", fails=True)
    assert "model.num_queries_one2one" in text and "Traceback" not in text
    assert not (sample / "no").exists()
