"""Lengths in epochs or fractions, turned into iterations before anything is built.

An iteration is one optimizer step on ``dataloader.train.total_batch_size`` images, so a schedule
in epochs or fractions keeps its meaning with another batch size or data set.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real

from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from detrex.utils.errors import InputError

from . import schema
from .instantiation import accepts, target_of

logger = logging.getLogger(__name__)
SWITCH = "matcher_change_iter"  # of matchers: when the high-order cost starts
_EPOCHS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*ep(?:ochs?)?\s*")


@dataclass
class Clock:
    """Converts lengths to iterations; a field that is None is not known."""

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


def resolve_schedule(
    cfg: DictConfig, epoch_length: int | None, overrides: Sequence[str] = ()
) -> None:
    """Write every length of a config in iterations, in place.

    Args:
        cfg: ``train.max_iter`` and the periods, warm-up and milestones of ``lr_multiplier``,
            ``matcher_change_iter`` of the model's parts, and the arguments that a class of the
            config names in its ``lengths``.
        epoch_length: iterations of one epoch, if that is known.
        overrides: the command line's "key=value" strings.

    Raises:
        InputError: a value of the wrong form, epochs of unknown length, or
            ``train.matcher_change_fraction`` beside a ``matcher_change_iter`` or without any part
            that takes it.
    """
    if cfg.train.fast_dev_run.enabled:
        cfg.train.update(max_iter=20, eval_period=10, log_period=1)
    clock = Clock(epoch_length)
    cfg.train.max_iter = clock.iterations(cfg.train.max_iter, "train.max_iter")
    if cfg.train.max_iter < 1:
        raise InputError("train.max_iter=0: there is nothing to train")
    clock.max_iter = cfg.train.max_iter
    for key in schema.names("is_length"):
        if (value := OmegaConf.select(cfg, key)) is not None or not schema.KEYS[key].optional:
            OmegaConf.update(cfg, key, clock.iterations(value, key))
    _resolve_declared(cfg, clock)
    for _, node in dict_nodes(cfg.get("lr_multiplier")):
        _resolve_warmup(node, clock)
        _resolve_milestones(node, clock)
    _resolve_matcher_switch(cfg, clock, overrides)


def dict_nodes(node: object, name: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Yield every dict of a config with its dotted key, outermost first; ``name`` is the node's."""
    if isinstance(node, DictConfig):
        yield name, node
    if isinstance(node, DictConfig | ListConfig):
        keys = node.keys() if isinstance(node, DictConfig) else range(len(node))
        for key in keys:
            if not OmegaConf.is_interpolation(node, key):
                yield from dict_nodes(node[key], f"{name}.{key}")


def _resolve_declared(cfg: DictConfig, clock: Clock) -> None:
    for group in ("model", "dataloader.train", "lr_multiplier"):
        for key, node in dict_nodes(OmegaConf.select(cfg, group), group):
            for name in getattr(target_of(node), "lengths", ()):
                if node.get(name) is not None:
                    node[name] = clock.iterations(node[name], f"{key}.{name}")


def _resolve_warmup(node: DictConfig, clock: Clock) -> None:
    length = node.get("warmup_length")
    # As in detectron2, a number up to 1 is a fraction of the run. New here: above 1, iterations.
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


def _resolve_matcher_switch(cfg: DictConfig, clock: Clock, overrides: Sequence[str]) -> None:
    nodes = [n for _, n in dict_nodes(cfg.get("model")) if SWITCH in n or accepts(n, SWITCH)]
    fraction = cfg.train.matcher_change_fraction
    if fraction is not None:
        _check_fraction(fraction, nodes, overrides)
        cfg.train.matcher_change_fraction = None  # the saved config says it once
        for node in nodes:
            node[SWITCH] = round(fraction * clock.max_iter)
    for node in nodes:
        if node.get(SWITCH) is not None:
            node[SWITCH] = clock.iterations(node[SWITCH], SWITCH)
            if fraction is None and node[SWITCH] >= clock.max_iter:
                logger.warning(
                    "%s=%d is not reached in %d iterations: the high-order matching cost never "
                    "starts; %s=0.75 scales it with the run",
                    *(SWITCH, node[SWITCH], clock.max_iter, SWITCH),
                )


def _check_fraction(
    fraction: object, nodes: Sequence[DictConfig], overrides: Sequence[str]
) -> None:
    """Check ``train.matcher_change_fraction``, which replaces a fraction in the model's config."""
    key = "train.matcher_change_fraction"
    if isinstance(fraction, str) or not 0 <= fraction <= 1:
        raise InputError(f"{key}={fraction}: give a number from 0 to 1")
    if not nodes:
        raise InputError(f"{key} is set, but no model part takes {SWITCH}")
    chosen = [text.split("=", 1)[1] for text in overrides if f".{SWITCH}=" in text]
    values = [node.get(SWITCH) for node in nodes if node.get(SWITCH) != _default_switch(node)]
    if any(value not in ("null", "None") for value in chosen) or any(
        value is not None and not isinstance(value, float) for value in values
    ):
        raise InputError(f"{key} and {SWITCH} are both set: set one of them to null")


def _default_switch(node: DictConfig) -> int | None:
    """The default of the node's class; a config with this value may only repeat it."""
    if not accepts(node, SWITCH):
        return None
    return inspect.signature(target_of(node)).parameters[SWITCH].default


def keep_matcher_switch(cfg: DictConfig, saved: Sequence[int | None]) -> None:
    """Give a resumed run the switch that it started with, whatever its ``max_iter`` is now.

    Args:
        cfg: the resolved config.
        saved: what :func:`switch_values` returned when the run started; empty: not known.
    """
    nodes = [node for _, node in dict_nodes(cfg.get("model")) if SWITCH in node]
    for node, value in zip(nodes, saved, strict=False):
        if node[SWITCH] != value:
            logger.warning(
                "%s stays %s, as when this run started (the present config means %s)",
                *(SWITCH, value, node[SWITCH]),
            )
            node[SWITCH] = value


def switch_values(cfg: DictConfig) -> list[int | None]:
    """Return every ``matcher_change_iter`` of the model, in the config's order."""
    return [node[SWITCH] for _, node in dict_nodes(cfg.get("model")) if SWITCH in node]


def scheduled_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules that depend on ``iter``, which the training loop sets: matchers whose cost
    changes, and models whose images change their size."""
    return [m for m in model.modules() if hasattr(m, "iter")]


def is_due(done: int, period: int) -> bool:
    """Whether an event of this period is due after ``done`` iterations; never if it is 0."""
    return period > 0 and done > 0 and done % period == 0
