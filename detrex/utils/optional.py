"""Packages that only some features need."""

from __future__ import annotations

import importlib.util

from detrex.utils.errors import InputError


def need_package(module: str, requirement: str) -> None:
    """Check that a package can be imported.

    Args:
        module: its name in Python.
        requirement: its name for pip.

    Raises:
        InputError: it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise InputError(f"{module} is not installed: pip install '{requirement}'")
