"""A training step of Rank-DETR R50 (forward, losses, backward, clipping, optimizer) against the
plain formulation: time, peak memory, and what it asks of the device.

CPU: 2 images of 480x640 with 7 and 12 objects. CUDA: see benchmarks/gpu/steps.py.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import HookBase
from detectron2.structures import Boxes, Instances
from omegaconf import DictConfig
from torch import nn

from benchmarks.attention import resident_peak
from benchmarks.baseline.model import PlainRankDetr, step
from detrex.checkpoint.model import build_model
from detrex.train import StepOptions, Trainer
from detrex.train.optim import build_optimizer
from detrex.utils.operators import OperatorCounter

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py"
OBJECTS = (7, 12)  # of the images in turns
CPU_SIZE, COUNTED_SIZE = (480, 640), (64, 96)
TIME_GOALS = {"fp32": 2.0, "bf16": 3.6}
MEMORY_GOALS = {"fp32": 1 / 0.55, "bf16": 1 / 0.42}
OPERATOR_GOAL, SYNC_GOAL = 3000, 1
Step = Callable[[], object]


def images(count: int, size: tuple[int, int], device: str) -> list[dict]:
    """Random images (height, width) with random boxes, in detectron2's format."""
    generator, (height, width) = torch.Generator().manual_seed(0), size
    batch = []
    for i in range(count):
        objects = OBJECTS[i % len(OBJECTS)]
        corners = torch.rand(2, objects, 2, generator=generator).sort(dim=0).values
        boxes = torch.cat([*corners], 1) * torch.tensor([width, height, width, height])
        labels = torch.randint(0, 80, (objects,), generator=generator)
        truth = Instances(size, gt_boxes=Boxes(boxes), gt_classes=labels)
        pixels = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
        sample = {"image": pixels.to(device), "height": height, "width": width}
        batch.append({**sample, "instances": truth})
    return batch


def shipped(cfg: DictConfig, device: str) -> nn.Module:
    """The shipped model with the weights of seed 0."""
    torch.manual_seed(0)
    return build_model(cfg).to(device)


def plain(cfg: DictConfig, device: str) -> PlainRankDetr:
    """The plain model with the same weights."""
    return PlainRankDetr(shipped(cfg, "cpu"), instantiate(cfg.model.backbone)).to(device)


def plain_step(cfg: DictConfig, batch: list[dict], device: str, fused: bool | None = None) -> Step:
    model, options = plain(cfg, device), dict(lr=cfg.optimizer.lr, weight_decay=1e-4, fused=fused)
    return partial(step, model, torch.optim.AdamW(model.parameters(), **options), batch)


def trainer(cfg: DictConfig, batch: list[dict], device: str, dtype: torch.dtype | None) -> Trainer:
    """The shipped model's trainer, as ``train_net.py`` makes it."""
    model = shipped(cfg, device)
    return Trainer(model, [batch], build_optimizer(cfg, model), StepOptions(amp_dtype=dtype))


def our_step(cfg: DictConfig, batch: list[dict], device: str, dtype: torch.dtype | None) -> Step:
    return partial(trainer(cfg, batch, device, dtype).train, 0, 1)


SIDES = {
    "baseline": plain_step,
    "fp32": partial(our_step, dtype=None),
    "bf16": partial(our_step, dtype=torch.bfloat16),
}


def seconds(function: Step, device: str) -> float:
    """CPU time of this process, which others on the machine disturb least; on a GPU, the clock."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = clock()
    function()
    wait()
    return clock() - start


def interleaved(functions: dict[str, Step], repeats: int, device: str) -> dict[str, float]:
    """Median seconds of each, run in turns after one unmeasured round."""
    rounds = [
        {name: seconds(function, device) for name, function in functions.items()}
        for _ in range(repeats + 1)
    ]
    return {name: statistics.median(r[name] for r in rounds[1:]) for name in functions}


def cpu_rows(cfg: DictConfig, repeats: int) -> list[dict]:
    batch, what = images(2, CPU_SIZE, "cpu"), "step, Rank-DETR R50, 2 images of 480x640"
    times = interleaved(
        {name: make(cfg, batch, "cpu") for name, make in SIDES.items()}, repeats, "cpu"
    )
    memory = {name: peak_of_child(name) for name in SIDES}
    kinds = (("", "_s", times, TIME_GOALS), (", peak memory", "_mib", memory, MEMORY_GOALS))
    return [
        {"what": f"{what}, {name}{kind}", f"baseline{unit}": values["baseline"]}
        | {f"ours{unit}": values[name], "ratio": values["baseline"] / values[name], "goal": goal}
        for kind, unit, values, goals in kinds
        for name, goal in goals.items()
    ]


def peak_of_child(side: str) -> float:
    """Peak resident MiB of a fresh process that makes one step: a peak never falls again."""
    command = [sys.executable, "-m", "benchmarks.step", side]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


class CountStep(HookBase):
    """Counts iteration 1, whose optimizer has its state and which logs nothing."""

    def __init__(self) -> None:
        self.counter = OperatorCounter()

    def before_step(self) -> None:
        if self.trainer.iter == 1:
            self.counter.__enter__()

    def after_step(self) -> None:
        if self.trainer.iter == 1:
            self.counter.__exit__(None, None, None)


def count_ours(cfg: DictConfig) -> OperatorCounter:
    """Count on the CPU what a step on a GPU does, which looks at its losses later. The sizes of
    the images change nothing."""
    ours, hook = trainer(cfg, images(2, COUNTED_SIZE, "cpu"), "cpu", None), CountStep()
    ours.guard.deferred = True
    ours.register_hooks([hook])
    ours.train(0, 3)
    return hook.counter


def count_row(cfg: DictConfig) -> dict:
    # Fused, for otherwise it reads each weight's step count, which is on the host on a GPU as well.
    baseline = plain_step(cfg, images(2, COUNTED_SIZE, "cpu"), "cpu", fused=True)
    baseline()
    with OperatorCounter() as counter:
        baseline()
    row = {"what": "step, operators and host synchronisations, forward to optimizer"}
    row |= {f"baseline_{name}": number for name, number in counter.totals().items()}
    row |= {f"ours_{name}": number for name, number in count_ours(cfg).totals().items()}
    return row | {"operators_goal": OPERATOR_GOAL, "syncs_goal": SYNC_GOAL}


def run(repeats: int = 2, device: str = "cpu") -> list[dict]:
    """Rows of times, memory and, on the CPU, counts."""
    if device == "cuda":
        from benchmarks.gpu.steps import all_rows  # it imports this module

        return all_rows(device)
    cfg = LazyConfig.load(str(CONFIG))
    return [*cpu_rows(cfg, repeats), count_row(cfg)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    SIDES[sys.argv[1]](LazyConfig.load(str(CONFIG)), images(2, CPU_SIZE, "cpu"), "cpu")()
    print(resident_peak() / 1024)
