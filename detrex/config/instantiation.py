"""Calling the class or function that a config node names."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from detectron2.config import instantiate
from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf

from detrex.utils.errors import InputError

_OF_PYTHON = ("multiple values for keyword", "unexpected keyword", "required positional argument")


def target_of(node: DictConfig) -> Callable | None:
    """Return the callable that ``node._target_`` names or is, or None if it cannot be found."""
    target = node.get("_target_")
    if not isinstance(target, str):
        return target
    try:
        return locate(target)
    except ImportError:
        return None


def arguments(node: DictConfig) -> list[str]:
    """Return the names of the parameters of the node's target; empty if it has none.

    A class whose ``__init__`` takes ``**kwargs`` passes them on to the next one that it extends.
    """
    names: list[str] = []
    for constructor in _constructors(target_of(node)):
        try:
            parameters = inspect.signature(constructor).parameters.values()
        except (TypeError, ValueError):  # some builtins have no signature
            break
        names += [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(dict.fromkeys(names))


def _constructors(target: Callable | None) -> list[Callable]:
    """Return the target; for a class, it and its bases that define ``__init__``."""
    if inspect.isclass(target):
        return [cls for cls in inspect.getmro(target) if "__init__" in vars(cls)]
    return [target] if target else []


def accepts(node: DictConfig, argument: str) -> bool:
    """Whether the node's target has a parameter of this name."""
    return argument in arguments(node)


def is_about_arguments(error: TypeError | ValueError) -> bool:
    """Whether a constructor's error is about a value (ValueError) or a name of the arguments in the
    config. Any other error needs its traceback."""
    return isinstance(error, ValueError) or any(text in str(error) for text in _OF_PYTHON)


def call_with(node: DictConfig, **objects: object) -> object:
    """Build what a node describes, with some of its arguments given as objects.

    Lists and dicts of the config become plain ones: omegaconf's would end up in the optimizer's
    state, and a checkpoint with them loads only by unpickling arbitrary classes.

    Args:
        node: its ``_target_`` is called with its other keys.
        objects: arguments by name; they replace the node's.

    Raises:
        InputError: the target cannot be imported.
    """
    target = target_of(node)
    if target is None:
        raise InputError(f"config target {node.get('_target_')} cannot be imported")
    names = [name for name in node if name != "_target_" and name not in objects]
    made = {name: _plain(instantiate(node[name])) for name in names}
    return target(**made, **objects)


def _plain(value: object) -> object:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
