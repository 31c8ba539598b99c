"""Clear import errors for names of upstream's public face that are not offered."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec


def unknown_name(module: str, instead: str = "") -> Callable[[str], object]:
    """A module ``__getattr__`` that says what is missing, and what to use ``instead``.

    Dunder look-ups (pickle, inspect) and submodules keep the AttributeError that Python expects.
    """

    def __getattr__(name: str) -> object:
        if name.startswith("__") or find_spec(f"{module}.{name}") is not None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise ImportError(
            f"{module}.{name} is not offered: it belongs to a detrex project outside this toolbox"
            f"{instead and '; '}{instead}"
        )

    return __getattr__
