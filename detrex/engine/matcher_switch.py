"""When the high-order matching cost starts: ``train.matcher_change_fraction``."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence

from omegaconf import DictConfig
from torch import nn

from detrex.config.instantiation import accepts, target_of
from detrex.utils.errors import InputError

from .schedule import dict_nodes

logger = logging.getLogger(__name__)
KEY = "matcher_change_iter"


def resolve_matcher_switch(cfg: DictConfig, overrides: Sequence[str] = ()) -> None:
    """Turn the fraction into iterations, in place; ``train.max_iter`` must be resolved.

    The fraction is consumed: a config that is saved afterwards holds ``matcher_change_iter`` only.

    Args:
        cfg: the config.
        overrides: the command line's "key=value" strings.

    Raises:
        InputError: the fraction and ``matcher_change_iter`` are both given, the fraction is out of
            [0, 1], or nothing in the model has such a switch.
    """
    nodes = [node for node in dict_nodes(cfg.get("model")) if KEY in node or accepts(node, KEY)]
    fraction = cfg.train.matcher_change_fraction
    if fraction is None:
        _warn_if_never(nodes, cfg.train.max_iter)
        return
    if isinstance(fraction, str) or not 0 <= fraction <= 1:
        raise InputError(f"train.matcher_change_fraction={fraction}: give a number from 0 to 1")
    if not nodes:
        raise InputError(f"train.matcher_change_fraction is set, but no model part takes {KEY}")
    _check_given_once(nodes, overrides)
    for node in nodes:
        node[KEY] = round(fraction * cfg.train.max_iter)
    cfg.train.matcher_change_fraction = None


def keep_matcher_switch(cfg: DictConfig, saved: Sequence[int | None]) -> None:
    """Give a resumed run the switch that it started with, whatever its ``max_iter`` is now."""
    nodes = [node for node in dict_nodes(cfg.get("model")) if KEY in node]
    for node, value in zip(nodes, saved, strict=False):
        if node[KEY] != value:
            logger.warning(
                "%s stays %s, as when this run started (the present config means %s)",
                KEY,
                value,
                node[KEY],
            )
            node[KEY] = value


def scheduled_matchers(model: nn.Module) -> list[nn.Module]:
    """Return the modules whose cost depends on their ``iter``, which somebody has to set."""
    return [m for m in model.modules() if hasattr(m, "iter") and hasattr(m, KEY)]


def switch_values(cfg: DictConfig) -> list[int | None]:
    """Return every ``matcher_change_iter`` of the model, in the config's order."""
    return [node[KEY] for node in dict_nodes(cfg.get("model")) if KEY in node]


def _check_given_once(nodes: Sequence[DictConfig], overrides: Sequence[str]) -> None:
    chosen = [text.split("=", 1) for text in overrides if f".{KEY}=" in text]
    by_command_line = any(value not in ("null", "None") for _, value in chosen)
    set_values = [node[KEY] for node in nodes if node.get(KEY) not in (None, _default(node))]
    if by_command_line or set_values:
        raise InputError(
            f"train.matcher_change_fraction and {KEY} are both set: keep one and set the other "
            "to null"
        )


def _default(node: DictConfig) -> int | None:
    """The class's own default, which a config that repeats it has not chosen."""
    if not accepts(node, KEY):
        return None
    return inspect.signature(target_of(node)).parameters[KEY].default


def _warn_if_never(nodes: Sequence[DictConfig], max_iter: int) -> None:
    for node in nodes:
        if (node.get(KEY) or 0) >= max_iter:
            logger.warning(
                "%s=%d is not reached in %d iterations: the high-order matching cost never "
                "starts; train.matcher_change_fraction=0.75 scales it with the run",
                KEY,
                node[KEY],
                max_iter,
            )
