"""Constructor arguments as attributes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

from torch import nn


def keep_arguments(init: Callable) -> Callable:
    """Decorate a module's ``__init__``: its arguments are attributes, as code written for upstream
    expects.

    What it sets itself, methods and modules are left alone. A subclass's argument replaces its
    base's of the same name.
    """
    signature = inspect.signature(init)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = [p.name for p in signature.parameters.values() if p.kind in named][1:]

    @functools.wraps(init)
    def keeping(self: nn.Module, *args, **kwargs) -> None:
        init(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        kept = self.__dict__.setdefault("_kept_arguments", set())
        for name in names:
            free = name in kept or not hasattr(self, name)
            if free and not isinstance(bound.arguments[name], nn.Module):
                kept.add(name)
                self.__dict__[name] = bound.arguments[name]

    return keeping
