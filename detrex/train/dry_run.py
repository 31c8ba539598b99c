"""What a training will take, from a few of its batches."""

from __future__ import annotations

import datetime
import resource
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from omegaconf import DictConfig

from detrex.utils.device import peak_memory, synchronize

from .evaluate import build_test_loader
from .trainer import Trainer

STEPS = 2  # the first one prepares kernels and memory


def rehearse(cfg: DictConfig, trainer: Trainer, start: int, epoch_length: int | None) -> None:
    """Run two batches of a training and one of its validation, and print memory, time and end.

    Nothing is written into the output folder. Every process must call this.

    Args:
        cfg: resolved.
        trainer: of :func:`detrex.train.build.build_trainer`; it is of no use afterwards.
        start: the first iteration.
        epoch_length: iterations of an epoch, if it is known.

    Raises:
        NonFiniteLoss: a loss became NaN or infinite.
    """
    evaluated = trainer.evaluate is not None
    trainer.save = trainer.evaluate = trainer.keep_best = trainer.is_over = None
    clock = _Clock()
    trainer.register_hooks([clock])
    with tempfile.TemporaryDirectory() as folder:  # for the state of a step that is not finite
        trainer.options.output_dir = folder
        trainer.train(start, min(start + STEPS, cfg.train.max_iter))
    evaluation = _evaluation_seconds(cfg, trainer) if evaluated else None
    if comm.is_main_process():
        left = cfg.train.max_iter - start
        for line in _report(cfg, trainer, clock.seconds, left, epoch_length, evaluation):
            print(line)


class _Clock(HookBase):
    """Seconds of the last step, with what its loader took."""

    seconds = 0.0

    def before_step(self) -> None:
        self._start = time.perf_counter()

    def after_step(self) -> None:
        synchronize(self.trainer.device.type)
        self.seconds = time.perf_counter() - self._start


def _evaluation_seconds(cfg: DictConfig, trainer: Trainer) -> float:
    """Seconds of an evaluation's forward passes in this process, from its first batch."""
    model, loader = trainer.network.eval(), build_test_loader(cfg)
    batch = next(iter(loader))
    with torch.no_grad():
        seconds = [_seconds(trainer, lambda: model(batch)) for _ in range(STEPS)]
    return seconds[-1] * len(loader)


def _seconds(trainer: Trainer, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    synchronize(trainer.device.type)
    return time.perf_counter() - start


def _report(
    cfg: DictConfig,
    trainer: Trainer,
    seconds: float,
    left: int,
    epoch_length: int | None,
    evaluation: float | None,
) -> list[str]:
    device, memory = "of the device", peak_memory()
    if memory is None or trainer.device.type == "cpu":
        unit = 2**20 if sys.platform == "darwin" else 2**10
        device = "of the process"
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    images, total = cfg.dataloader.train.total_batch_size, seconds * left
    lines = [f"memory: {memory:.0f} MiB {device} at the peak"]
    lines += [f"iteration: {seconds:.3f} s for {images} images"]
    if epoch_length is not None:
        lines += [f"epoch: {_duration(seconds * epoch_length)}, {epoch_length} iterations"]
    if evaluation is not None:
        period = cfg.train.eval_period
        count = 1 + (max(0, left - 1) // period if period else 0)
        total += count * evaluation
        lines += [f"evaluation: {_duration(evaluation)}, {count} in the run"]
    end = datetime.datetime.now() + datetime.timedelta(seconds=total)
    lines += [f"run: {_duration(total)}, {left} iterations; started now it ends {end:%F %H:%M}"]
    return [f"dry run: {line}" for line in lines]


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
