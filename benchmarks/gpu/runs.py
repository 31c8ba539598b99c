"""Runs of train_net.py on the sample data, each in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks.gpu.checks import CheckFailed, Result, demand, relative, within
from detrex.data.sample.files import make_sample_data

ROOT = Path(__file__).parents[2]
RANK_DETR = ROOT / "projects/rank_detr/configs/rank_detr_efficientnet_lite0_sample_data.py"
DETR = ROOT / "benchmarks/gpu/detr_sample_data.py"
STEPS = {"cuda": 30, "cpu": 3}
# Weights that differ by 5e-7 of themselves, on one CPU: losses differ by 6e-8, 6e-4, 1e-3, 1e-3 and
# 2e-2 in the first steps, for AdamW's first steps are as large for small gradients as for large
# ones. Two paths of attention, equal but for rounding, end 1 % apart on average over thirty steps,
# and 3 % at most.
FIRST, EARLY, ON_AVERAGE, EACH = 1e-4, 1e-2, 0.05, 0.2
NO_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}  # also in convolutions, where PyTorch allows it
OTHER_PATH = {"DETREX_ATTENTION": "pytorch"}  # the other side where there is no GPU


def check_equals_cpu(device: str) -> Result:
    """The total losses of a training run on the device and of the same run on the CPU."""
    steps = STEPS[device]
    with tempfile.TemporaryDirectory() as folder:
        data = sample_data(Path(folder, "data"))
        options = [*data, f"train.max_iter={steps}", "train.log_period=1"]
        other = OTHER_PATH if device == "cpu" else NO_TF32
        sides = {"reference": ("cpu", {}), "device": (device, other)}
        runs = {
            name: start(RANK_DETR, Path(folder, name), [*options, f"train.device={place}"], more)
            for name, (place, more) in sides.items()
        }
        for run in runs.values():
            finish(*run)
        reference, ours = (losses(Path(folder, name)) for name in runs)
    demand(len(reference) == len(ours) == steps, f"{len(reference)} and {len(ours)} losses")
    apart = [relative(abs(a - b), abs(a)) for a, b in zip(reference, ours, strict=True)]
    rows = [{"what": "loss by step", "cpu": reference, device: ours}]
    errors = {
        "step 1": (apart[0], FIRST),
        "steps 1 to 3": (max(apart[:3]), EARLY),
        "mean of all": (sum(apart) / steps, ON_AVERAGE),
        "all": (max(apart), EACH),
    }
    return within(errors, rows)


def check_resume(device: str, steps: int = 6) -> Result:
    """Under ``train.deterministic`` a run that is resumed half-way leaves the bits of one that was
    never interrupted: weights, optimizer, losses."""
    half = steps // 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = [
            *sample_data(folder / "data"),
            *(f"train.max_iter={steps}", f"train.checkpointer.period={half}"),
            *("train.deterministic=True", f"train.device={device}", "train.log_period=1"),
        ]
        finish(*start(DETR, folder / "whole", options))
        checkpoint = f"model_{half - 1:07d}.pth"
        shutil.copytree(folder / "whole", folder / "resumed")
        for path in (folder / "resumed").glob("model_*.pth"):
            if path.name != checkpoint:
                path.unlink()
        (folder / "resumed/last_checkpoint").write_text(checkpoint)
        finish(*start(DETR, folder / "resumed", ["--resume", *options]))
        whole, resumed = (
            torch.load(folder / run / "model_final.pth", map_location="cpu", weights_only=True)
            for run in ("whole", "resumed")
        )
        both = losses(folder / "whole"), losses(folder / "resumed")
    different = [*differences(whole["model"], resumed["model"], "model")]
    different += differences(whole["trainer"], resumed["trainer"], "trainer")
    if different or both[0] != both[1]:
        first = different[0] if different else f"losses {both}"
        raise CheckFailed(f"{len(different)} tensors differ after the resume, first: {first}")
    return Result(f"resumed after {half} of {steps} steps: equal bit for bit")


def differences(a: object, b: object, name: str) -> list[str]:
    """Names of what is not equal in two nested states."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [text for key in a for text in differences(a[key], b[key], f"{name}.{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [text for i, pair in pairs for text in differences(*pair, f"{name}.{i}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [name]
    return [] if a == b else [name]


def sample_data(folder: Path) -> list[str]:
    """Make 40 training images; return the overrides for runs on them, from random weights, that
    are evaluated on four images at the end."""
    make_sample_data(folder, train=40, val=4)
    paths = [
        text
        for split in ("train", "val")
        for text in (
            f"dataloader.dataset.{split}.json={folder / split}.json",
            f"dataloader.dataset.{split}.images={folder / split}",
        )
    ]
    return [*paths, "train.init_checkpoint=", "train.eval_period=0", "train.amp.enabled=False"]


def start(
    config: Path, output: Path, options: list[str], environment: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen, Path]:
    """Start train_net.py; return the process and the file of what it prints."""
    command = [sys.executable, str(ROOT / "tools/train_net.py"), "--config-file", str(config)]
    command += [*options, f"train.output_dir={output}"]
    log, variables = output.with_suffix(".log"), os.environ | dict(environment or {})
    with log.open("w", encoding="utf-8") as stdout:
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=stdout, stderr=subprocess.STDOUT
        )
    return process, log


def finish(process: subprocess.Popen, log: Path) -> None:
    """Wait for a run.

    Raises:
        CheckFailed: with its last line about an error, if it failed.
    """
    if process.wait():
        text = log.read_text(encoding="utf-8", errors="replace")
        print(text)
        lines = text.strip().splitlines() or ["it printed nothing"]
        errors = [line for line in lines if "rror" in line]
        raise CheckFailed(f"train_net.py ended with {process.returncode}: {(errors or lines)[-1]}")


def losses(folder: Path) -> list[float]:
    """The total loss of each step."""
    lines = (folder / "metrics.json").read_text(encoding="utf-8").splitlines()
    return [row["total_loss"] for row in map(json.loads, lines) if "total_loss" in row]
