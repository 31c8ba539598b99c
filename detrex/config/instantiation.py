"""Calling what a config node describes, together with objects that are made at run time."""

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
    """The target; of a class, each of those it is made of that has an ``__init__`` of its own."""
    if inspect.isclass(target):
        return [cls for cls in inspect.getmro(target) if "__init__" in vars(cls)]
    return [target] if target else []


def accepts(node: DictConfig, argument: str) -> bool:
    """Whether the node's target has a parameter of this name."""
    return argument in arguments(node)


def is_about_arguments(error: TypeError | ValueError) -> bool:
    """Whether an error of a constructor is its word about a config's arguments, or Python's about
    their names; of others the traceback is needed."""
    return isinstance(error, ValueError) or any(text in str(error) for text in _OF_PYTHON)


def call_with(node: DictConfig, **given: object) -> object:
    """Instantiate a node with some arguments given as objects.

    Lists and dicts arrive as plain ones: omegaconf's would end up in the optimizer's state and
    make checkpoints that do not load without unpickling arbitrary classes.
    """
    target = target_of(node)
    if target is None:
        raise InputError(f"config target {node.get('_target_')} cannot be imported")
    names = [name for name in node if name != "_target_" and name not in given]
    made = {name: _plain(instantiate(node[name])) for name in names}
    return target(**made, **given)


def _plain(value: object) -> object:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
