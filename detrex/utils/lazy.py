"""Names of a package that are imported at first use, so that importing the package costs little."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[list[str], Callable]:
    """Return a package's ``__all__`` and ``__getattr__`` (PEP 562).

    Args:
        package: its ``__name__``.
        modules: module of the package -> the names that it exports, separated by blanks.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def getattr_of_package(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return sorted(homes), getattr_of_package
