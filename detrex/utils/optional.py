"""Packages that only some features need."""

from __future__ import annotations

import importlib.util

from detrex.utils.errors import InputError


def need_package(module: str, requirement: str, key: str = "") -> None:
    """Check that a package can be imported.

    Args:
        module: its name in Python.
        requirement: its name for pip.
        key: of the config, or option, that needs it.

    Raises:
        InputError: it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        needed = f"{key}: " if key else ""
        raise InputError(f"{needed}{module} is not installed: pip install '{requirement}'")
