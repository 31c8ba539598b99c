"""Values of a config that no run can use, refused before anything is built."""

from __future__ import annotations

import math
from numbers import Real

from omegaconf import DictConfig, ListConfig, OmegaConf

from detrex.utils.device import check_device_name
from detrex.utils.errors import InputError

# resolve_schedule checks these: epochs and fractions are allowed.
_LENGTHS = ("train.max_iter", "train.eval_period", "train.checkpointer.period")
# Type of a default: what is accepted in its place, in words.
_KINDS = {
    bool: (bool | int, "True or False"),
    int: (int, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a text"),
    ListConfig: (ListConfig | str, "a list"),
    DictConfig: (DictConfig, "a group of keys"),
}
_LIMITS = {
    "train.log_period": (1, None),
    "train.accumulation_steps": (1, None),
    "train.checkpointer.max_to_keep": (1, None),
    "train.model_ema.decay": (0, 1),
    "train.model_ema.warmup": (0, None),
    "train.seed": (None, 2**32 - 1),  # numpy's
    "dataloader.train.total_batch_size": (1, None),
    "dataloader.train.num_workers": (0, None),
    "dataloader.test.num_workers": (0, None),
}


def check_values(cfg: DictConfig, defaults: DictConfig) -> None:
    """Check the types of a config's ``train`` and a few values that would fail late.

    Args:
        cfg: has every key of ``defaults`` under ``train``.
        defaults: the shipped ``train``.

    Raises:
        InputError: a value of another type than its default's, or out of its range; names the key.
    """
    _check_types(cfg.train, defaults, "train")
    if not cfg.train.output_dir:
        raise InputError("train.output_dir is empty: name the folder of the run (. is this one)")
    _check_type("optimizer.lr", cfg.optimizer.get("lr", 1.0), 1.0)
    for key, (lowest, highest) in _LIMITS.items():
        value = OmegaConf.select(cfg, key, default=lowest)
        if key.startswith("dataloader."):
            _check_type(key, value, 1)
        if value is not None and lowest is not None and value < lowest:
            raise InputError(f"{key}={value}: give {lowest} or more")
        if value is not None and highest is not None and value > highest:
            raise InputError(f"{key}={value}: give {highest} or less")
    check_device_name(cfg.train.device)


def _check_types(node: DictConfig, defaults: DictConfig, prefix: str) -> None:
    for key, default in defaults.items():
        name = f"{prefix}.{key}"
        if default is None or name in _LENGTHS:
            continue
        _check_type(name, node[key], default)
        if isinstance(default, DictConfig) and key != "params":  # those are others' arguments
            _check_types(node[key], default, name)


def _check_type(name: str, value: object, default: object) -> None:
    accepted, words = _KINDS[type(default)]
    if value is None and (default == "" or name == "train.checkpointer.max_to_keep"):
        return
    is_finite = not isinstance(value, float) or math.isfinite(value)
    is_kind = isinstance(value, accepted) and isinstance(value, bool) <= isinstance(default, bool)
    if not (is_kind and is_finite):
        raise InputError(f"{name}={value}: give {words}")
