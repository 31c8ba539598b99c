"""From the command line to a checked config."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from detectron2.config import LazyConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from detrex.utils.errors import InputError
from detrex.utils.images import is_address
from detrex.utils.text import first_line, literal

from . import schema
from .config import existing_file
from .instantiation import accepts, arguments, target_of
from .learning_rate import REFERENCE_BATCH
from .models import model_file
from .trust import load_yaml
from .values import check_values

_GROUPS = ("model", "dataloader", "optimizer", "lr_multiplier", "train")


def load_config(
    config_file: str, overrides: Sequence[str] = (), trust_config: bool = False
) -> DictConfig:
    """Load a config file, add what older ones lack, and apply overrides.

    Args:
        config_file: a LazyConfig python file, or a saved ``config.yaml``.
        overrides: "a.b.c=value" strings; the key must exist.
        trust_config: run code outside of detrex and its libraries that a YAML file names. A file
            that a run of this user has written needs no trust; a python file is always run.

    Raises:
        InputError: no such file, a file that is no config or names code that is not trusted, or an
            unusable override or value.
    """
    if not config_file:
        raise InputError("give a config file: --config-file projects/<name>/configs/<config>.py")
    if is_address(config_file):
        raise InputError(f"{config_file}: configs are read from files: download it and look at it")
    path = existing_file(Path(config_file).expanduser())
    cfg = _load_groups(path, trust_config)
    _name_output_dir(cfg, path)
    if cfg.dataloader.get("dataset") is None:  # also of a config from elsewhere
        cfg.dataloader.dataset = {}
    schema.add_defaults(cfg)
    _follow_output_dir(cfg)
    apply_overrides(cfg, overrides)
    _check_references(cfg)
    _expand_home(cfg)
    check_values(cfg)
    return cfg


def model_config(model: str) -> tuple[DictConfig, ...]:
    """Load a model's config, for a config that changes what it trains on.

    Args:
        model: a name of ``detrex.config.MODELS``, e.g. "r50", or the path of a config file.

    Returns:
        ``dataloader, lr_multiplier, model, optimizer, train``, in this order; a fresh copy on every
        call.

    Raises:
        InputError: there is no such model or file, or it is no config.
    """
    path = existing_file(model_file(model))
    cfg = _load_groups(path, False)
    return tuple(cfg[key] for key in sorted(_GROUPS))


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Apply "a.b.c=value" strings in place.

    Raises:
        InputError: a string of another form, or a key that the config does not have; names the
            nearest one.
    """
    for text in overrides:
        key, equals, _ = text.partition("=")
        if not equals or not key:
            raise InputError(f"override {text!r}: write key=value, e.g. train.max_iter=1000")
        if not _has(cfg, key):
            known = [*_keys(cfg), REFERENCE_BATCH]
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"override {text!r}: the config has no key {key!r}{hint}")
        _apply(cfg, text)
        node, _, last = key.rpartition(".")
        if last == "_target_" and not callable(target_of(OmegaConf.select(cfg, node))):
            raise InputError(f"override {text!r}: there is no such class or function")
    return cfg


def _apply(cfg: DictConfig, text: str) -> None:
    key, _, value = text.partition("=")
    if value == "None":  # Python's spelling; Hydra's grammar would read a string
        text, value = f"{key}=null", "null"
    if key in schema.names("is_path"):
        OmegaConf.update(cfg, key, None if value == "null" else literal(_unquoted(value)))
        return
    is_group = isinstance(OmegaConf.select(cfg, key), DictConfig)
    if is_group and value[:1] != "{" and (value != "null" or key in _GROUPS):
        raise InputError(f"override {text!r}: {key} is a group of keys; set one of them")
    try:
        LazyConfig.apply_overrides(cfg, [text])
    except (HydraException, OmegaConfBaseException, KeyError, ValueError) as error:
        # Hydra's grammar has no "=", "(" or non-ASCII letters, which names do have.
        if value[:1] not in "[{" and isinstance(OmegaConf.select(cfg, key), str | None):
            OmegaConf.update(cfg, key, literal(_unquoted(value)))
            return
        raise InputError(f"override {text!r} cannot be applied: {first_line(error)}") from error


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _load_groups(path: Path, trust_config: bool) -> DictConfig:
    cfg = _load(path, trust_config)
    for key in _GROUPS:
        if not isinstance(cfg.get(key), DictConfig):
            raise InputError(f"config file {path} does not define {key!r}, a group of keys")
    return cfg


def _load(path: Path, trust_config: bool) -> DictConfig:
    try:
        if path.suffix in (".yaml", ".yml"):
            return load_yaml(path, trust_config)
        return LazyConfig.load(str(path))
    except InputError:
        raise
    except (ImportError, SyntaxError, ValueError) as error:
        raise InputError(f"config file {path} cannot be loaded: {error}") from error


def _name_output_dir(cfg: DictConfig, path: Path) -> None:
    """Name the output folder after the config file, unless the config names another one."""
    default = schema.KEYS["train.output_dir"].default
    is_python = path.suffix == ".py"  # a saved config holds the folder that the run has used
    if "output_dir" not in cfg.train or (is_python and cfg.train.output_dir == default):
        cfg.train.output_dir = literal(f"{default}/{path.stem}")


def _follow_output_dir(cfg: DictConfig) -> None:
    """Make the evaluator write into the run's folder, also if an override names another folder."""
    evaluator = cfg.dataloader.get("evaluator")
    if evaluator is not None and accepts(evaluator, "output_dir"):
        if evaluator.get("output_dir") in (None, cfg.train.output_dir):
            evaluator.output_dir = "${train.output_dir}"


def _expand_home(cfg: DictConfig) -> None:
    for key in schema.names("is_path"):
        path = OmegaConf.select(cfg, key)
        if isinstance(path, str) and path.startswith("~"):
            OmegaConf.update(cfg, key, literal(os.path.expanduser(path)))


def _check_references(cfg: DictConfig) -> None:
    """Raise InputError for a ``${key}`` that cannot be resolved."""
    try:
        OmegaConf.to_container(cfg, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        key = getattr(error, "full_key", None) or "a key that refers to itself"
        raise InputError(f"config: {key} refers to nothing: {first_line(error)}") from error


def _has(cfg: DictConfig, key: str) -> bool:
    """Whether the config has the key, or its target takes an argument of that name."""
    *path, last = key.split(".")
    node = cfg
    for part in path:
        if isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, DictConfig) and part in node:
            node = node[part]
        else:
            return False
    if isinstance(node, ListConfig):
        return last.isdigit() and int(last) < len(node)
    return isinstance(node, DictConfig) and (
        last in node or key == REFERENCE_BATCH or accepts(node, last)
    )


def _keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of a config, and those that its targets accept besides."""
    for key in {*node, *arguments(node)}:
        name = f"{prefix}{key}"
        yield name
        if key in node and not OmegaConf.is_interpolation(node, key):
            if isinstance(node[key], DictConfig):
                yield from _keys(node[key], f"{name}.")
