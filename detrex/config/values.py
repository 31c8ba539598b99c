"""Values of a config that no run can use, refused before anything is built."""

from __future__ import annotations

import math
from numbers import Real

from omegaconf import DictConfig, ListConfig, OmegaConf

from detrex.config import schema
from detrex.utils.device import check_device_name
from detrex.utils.errors import InputError

_ABSENT = object()
# Type of a key: what is accepted, in words.
_ACCEPTED = {
    bool: (bool | int, "True or False"),
    int: (int, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a text"),
    list: (ListConfig | str, "a list"),
    dict: (DictConfig, "a group of keys"),
}


def check_values(cfg: DictConfig) -> None:
    """Check the values of a config against the table of keys.

    Args:
        cfg: has every key of ``train``.

    Raises:
        InputError: a value of another type, or out of its range; names the key.
    """
    for name in schema.groups("train"):
        _check_type(name, OmegaConf.select(cfg, name), dict)
    for name, key in schema.KEYS.items():
        value = OmegaConf.select(cfg, name, default=_ABSENT)
        if value is not _ABSENT and not (key.optional and value is None):
            _check(name, value, key)
    if not cfg.train.output_dir:
        raise InputError("train.output_dir is empty: name the folder of the run (. is this one)")
    check_device_name(cfg.train.device)


def _check(name: str, value: object, key: schema.Key) -> None:
    if key.checked_type:
        _check_type(name, value, key.checked_type)
    if key.least is not None and value < key.least:
        raise InputError(f"{name}={value}: give {key.least} or more")
    if key.most is not None and value > key.most:
        raise InputError(f"{name}={value}: give {key.most} or less")


def _check_type(name: str, value: object, kind: type) -> None:
    accepted, words = _ACCEPTED[kind]
    is_kind = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    if not is_kind or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(f"{name}={value}: give {words}")
