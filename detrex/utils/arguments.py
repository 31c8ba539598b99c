"""Constructor arguments as attributes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

from torch import nn


def keep_arguments(init: Callable) -> Callable:
    """Decorate a module's ``__init__`` so that its arguments become attributes, as in upstream.

    Attributes that it sets itself, methods and arguments that are modules are left alone. An
    argument of a subclass replaces the one of the same name of its base.
    """
    signature = inspect.signature(init)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = [p.name for p in signature.parameters.values() if p.kind in named][1:]

    @functools.wraps(init)
    def keeping(self: nn.Module, *args, **kwargs) -> None:
        init(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        stored = self.__dict__.setdefault("_stored_arguments", set())
        for name in names:
            free = name in stored or not hasattr(self, name)
            if free and not isinstance(bound.arguments[name], nn.Module):
                stored.add(name)
                self.__dict__[name] = bound.arguments[name]

    return keeping
