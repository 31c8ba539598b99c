"""Grids of config overrides: ``model.x=[a,b]`` times ``model.y=[c,d]``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from detrex.utils.errors import InputError
from detrex.utils.text import first_line


def grid_points(entries: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the product of grid entries; each point is one override per entry.

    Args:
        entries: "key=[a,b]" strings; the values may themselves be lists, e.g. "key=[[1,2],[2,2]]".

    Raises:
        InputError: another form, no values, a value twice, or a key twice.
    """
    axes = [grid_values(entry) for entry in entries]
    keys = [entry.partition("=")[0] for entry in entries]
    if repeated := {key for key in keys if keys.count(key) > 1}:
        raise InputError(f"--grid: {min(repeated)} is given twice: list its values in one entry")
    return list(itertools.product(*axes))


def grid_values(entry: str) -> list[str]:
    """Return the overrides of one entry: "key=[a,b]" gives "key=a" and "key=b"."""
    key, _, values = entry.partition("=")
    if not key or not (values.startswith("[") and values.endswith("]")):
        raise InputError(f'--grid {entry!r}: write "key=[a,b]", e.g. "model.k_one2many=[0,4]"')
    if not values[1:-1].strip():
        raise InputError(f"--grid {entry!r}: the list is empty; give at least one value")
    try:
        # Hydra's sweep grammar: commas inside quotes, lists and dicts do not separate.
        override = OverridesParser.create().parse_override(f"{key}={values[1:-1]}")
    except HydraException as error:
        raise InputError(f"--grid {entry!r} cannot be read: {first_line(error)}") from None
    if override.is_sweep_override():
        elements = list(override.sweep_string_iterator())
    else:
        elements = [override.get_value_element_as_str()]
    if len(set(elements)) < len(elements):
        raise InputError(f"--grid {entry!r}: a value is given twice")
    return [f"{key}={value}" for value in elements]


def label(overrides: Sequence[str]) -> str:
    """A short name: "k_one2many=4, x.alpha=2"; keys by their last part, longer if ambiguous."""
    keys = [text.partition("=")[0].split(".") for text in overrides]
    ends = [key[-1] for key in keys]
    short = [
        ".".join(key) if ends.count(end) > 1 else end for key, end in zip(keys, ends, strict=True)
    ]
    values = [text.partition("=")[2] for text in overrides]
    return ", ".join(f"{key}={value}" for key, value in zip(short, values, strict=True))
