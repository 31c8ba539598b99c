"""Configs as text, to save, to compare and to run again."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping

import yaml
from detectron2.config.instantiate import dump_dataclass
from detectron2.utils.registry import _convert_target_to_string as target_name
from omegaconf import DictConfig, OmegaConf, SCMode

CONFIG_FILE = "config.yaml"  # beside the weights that were trained with it


def plain_config(cfg: DictConfig) -> dict:
    """Return a config as dicts, lists and values; targets become dotted names.

    Interpolations stay as they are. A lambda becomes its source text, which can be compared but not
    called: see ``is_reproducible``.
    """
    content = OmegaConf.to_container(cfg, resolve=False, structured_config_mode=SCMode.INSTANTIATE)
    return _plain(content)


def json_config(cfg: DictConfig) -> dict:
    """Return a config as JSON's types only, equal for equal configs in any process."""
    return json.loads(_as_json(plain_config(cfg)))


def config_yaml(cfg: DictConfig) -> str:
    """Return a config as YAML that ``LazyConfig.load`` reads back."""
    return yaml.dump(plain_config(cfg), default_flow_style=None, allow_unicode=True, width=9999)


def is_reproducible(cfg: DictConfig) -> bool:
    """Whether ``config_yaml`` says everything: False for a config with lambdas or local objects."""
    content = plain_config(cfg)
    if any(isinstance(value, _Source) for value in _leaves(content)):
        return False
    try:
        return _as_json(yaml.unsafe_load(config_yaml(cfg))) == _as_json(content)
    except Exception:  # whatever an object's own reconstruction raises
        return False


def config_differences(config: Mapping, other: Mapping, prefix: str = "") -> Iterator[str]:
    """Yield "a.b.c: x, not y" for every key in which two plain configs differ."""
    for key in sorted({*config, *other}, key=str):
        here, there = config.get(key), other.get(key)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            yield from config_differences(here, there, f"{prefix}{key}.")
        elif here != there:
            yield f"{prefix}{key}: {_short(here)}, not {_short(there)}"


class _Source(str):
    """Source text in the place of a function that has no importable name."""


yaml.add_representer(_Source, lambda dumper, text: dumper.represent_str(str(text)))


def _plain(value: object, key: str | None = None) -> object:
    if isinstance(value, Mapping):
        return {name: _plain(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dump_dataclass(value))
    if "<" in getattr(value, "__qualname__", ""):  # "<lambda>", "<locals>"
        return _source(value)
    return target_name(value) if key == "_target_" and callable(value) else value


def _source(function: Callable) -> _Source:
    try:
        return _Source(inspect.getsource(function).strip())
    except (OSError, TypeError):
        return _Source(f"{function.__module__}.{function.__qualname__}")


def _as_json(content: object) -> str:
    return json.dumps(content, default=_describe, sort_keys=True)


def _describe(value: object) -> str:
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


def _leaves(value: object) -> Iterator:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
