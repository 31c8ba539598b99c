"""Periods and lengths in epochs or fractions, turned into iterations before anything is built.

An iteration is one optimizer step on ``dataloader.train.total_batch_size`` images, so a schedule
in epochs or fractions keeps its meaning with another batch size or data set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real

from omegaconf import DictConfig, ListConfig, OmegaConf

from detrex.utils.errors import InputError

PERIODS = ("train.eval_period", "train.checkpointer.period")
_EPOCHS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*ep(?:ochs?)?\s*")


@dataclass
class Clock:
    """Converts lengths of time to iterations; None is a length that nobody knows."""

    epoch_length: int | None
    max_iter: int | None = None

    def iterations(self, value: object, key: str) -> int:
        """Return ``value`` in iterations.

        Args:
            value: int, "12ep", or a float in (0, 1) once ``max_iter`` is known.
            key: the config key, for the error.

        Raises:
            InputError: anything else, or epochs of unknown length.
        """
        if isinstance(value, str) and (epochs := _EPOCHS.fullmatch(value)):
            if self.epoch_length is None:
                raise InputError(f"{key}={value}: dataloader.train has no dataset: give iterations")
            return max(1, round(float(epochs[1]) * self.epoch_length))
        if isinstance(value, Real) and not isinstance(value, bool):
            if value >= 0 and value == int(value):
                return int(value)
            if 0 < value < 1 and self.max_iter is not None:
                return max(1, round(value * self.max_iter))
        fraction = "" if self.max_iter is None else " or a fraction of max_iter between 0 and 1"
        raise InputError(f'{key}={value}: give iterations (an int), epochs ("12ep"){fraction}')


def resolve_schedule(cfg: DictConfig, epoch_length: int | None) -> None:
    """Write every period and length of a config in iterations, in place.

    Args:
        cfg: ``train.max_iter``, the periods, and warm-up and milestones of ``lr_multiplier``.
        epoch_length: iterations of one epoch, if that is known.

    Raises:
        InputError: a value of the wrong form, or epochs of unknown length.
    """
    if cfg.train.fast_dev_run.enabled:
        cfg.train.update(max_iter=20, eval_period=10, log_period=1)
    clock = Clock(epoch_length)
    cfg.train.max_iter = clock.iterations(cfg.train.max_iter, "train.max_iter")
    if cfg.train.max_iter < 1:
        raise InputError("train.max_iter=0: there is nothing to train")
    clock.max_iter = cfg.train.max_iter
    for key in PERIODS:
        OmegaConf.update(cfg, key, clock.iterations(OmegaConf.select(cfg, key), key))
    for node in dict_nodes(cfg.get("lr_multiplier")):
        _resolve_warmup(node, clock)
        _resolve_milestones(node, clock)


def dict_nodes(node: object) -> Iterator[DictConfig]:
    """Yield every dict of a config, outermost first."""
    if isinstance(node, DictConfig):
        yield node
    if isinstance(node, DictConfig | ListConfig):
        keys = node.keys() if isinstance(node, DictConfig) else range(len(node))
        for key in keys:
            if not OmegaConf.is_interpolation(node, key):
                yield from dict_nodes(node[key])


def _resolve_warmup(node: DictConfig, clock: Clock) -> None:
    length = node.get("warmup_length")
    # As detectron2: a number up to 1 is a share of the run. Ours: beyond that it is iterations.
    if isinstance(length, str) or (isinstance(length, Real) and length > 1):
        iterations = clock.iterations(length, "lr_multiplier.warmup_length")
        node.warmup_length = min(1.0, iterations / clock.max_iter)


def _resolve_milestones(node: DictConfig, clock: Clock) -> None:
    milestones = node.get("milestones")
    if milestones is None or all(isinstance(m, int) for m in milestones):
        return  # as upstream: plain numbers are relative to the last one
    steps = [clock.iterations(m, "lr_multiplier milestones") for m in milestones]
    if len(steps) == len(node["values"]):
        steps = steps[:-1]  # the last one is the end of the run, which is max_iter
    steps = [step for step in steps if step < clock.max_iter]
    values = list(node["values"])[: len(steps) + 1]
    node.update(milestones=steps, values=values, num_updates=clock.max_iter)


def is_due(done: int, period: int) -> bool:
    """Whether what has this period comes after so many iterations; a period of 0 never ends."""
    return period > 0 and done > 0 and done % period == 0
