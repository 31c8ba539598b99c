"""Shipped config files by their path inside ``configs/``, from any folder and from a wheel."""

from __future__ import annotations

import copy
import difflib
import functools
from pathlib import Path

from detectron2.config import LazyConfig
from omegaconf import DictConfig

from detrex.utils.errors import InputError

_HERE = Path(__file__).resolve().parent


def config_root() -> Path:
    """Return the ``configs`` folder: inside this package in a wheel, else the checkout's."""
    packaged = _HERE / "configs"
    return packaged if packaged.is_dir() else _HERE.parents[1] / "configs"


def get_config(config_path: str) -> DictConfig:
    """Load a shipped config file, e.g. ``get_config("common/train.py").train``.

    Args:
        config_path: path relative to the ``configs`` folder.

    Returns:
        Its config objects by name; a fresh copy on every call.

    Raises:
        InputError: there is no such file; the nearest names are given.
    """
    path = existing_file(config_root() / config_path)
    changed = max(file.stat().st_mtime_ns for file in config_root().rglob("*.py"))
    return copy.deepcopy(_executed(str(path), changed))


@functools.cache
def _executed(path: str, changed: int) -> DictConfig:
    """A file's configs, executed anew when any shipped file has changed. Copying them is several
    times as fast as executing a file that builds on others."""
    return LazyConfig.load(path)


def get_recipe(config_path: str) -> tuple[DictConfig, ...]:
    """Load a shipped recipe for a run: all that a config needs beside its model.

    Args:
        config_path: path relative to the ``configs`` folder, e.g. ``common/recipes/coco_12ep.py``.

    Returns:
        ``dataloader, lr_multiplier, optimizer, train``, in this order; a fresh copy on every call.

    Raises:
        InputError: there is no such file; the nearest names are given.
    """
    recipe = get_config(config_path)
    return recipe.dataloader, recipe.lr_multiplier, recipe.optimizer, recipe.train


def existing_file(path: Path) -> Path:
    """Return ``path`` if it is a file.

    Raises:
        InputError: it is not; names the most similar configs nearby, or one in a folder.
    """
    if path.is_file():
        return path
    if path.is_dir():
        inside = sorted(_config_files(path))
        hint = f", e.g. {inside[0]}" if inside else ""
        raise InputError(f"config file {path} is a folder: name a file in it{hint}")
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    names = {str(file.relative_to(folder)): file for file in _config_files(folder)}
    near = difflib.get_close_matches(str(path.relative_to(folder)), names, n=3, cutoff=0.6)
    hint = f"; did you mean {', '.join(str(folder / name) for name in near)}?" if near else ""
    raise InputError(f"config file {path} not found{hint}")


def _config_files(folder: Path) -> list[Path]:
    # Two levels: a misspelt path must not make us walk a home folder.
    files = [file for pattern in ("*.py", "*/*.py") for file in folder.glob(pattern)]
    configs = [f for f in files if "configs" in f.parts or f.parent == folder and f.stem != "setup"]
    return [*configs, *folder.glob("*.yaml")]
