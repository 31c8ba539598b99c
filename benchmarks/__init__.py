"""What tools/benchmark.py measures: each module is a benchmark, whose ``run`` returns its rows.

A row names what was measured ("what"); seconds end in "_s", and "ratio" is the plain side's over
ours. Options are the parameters of ``run``.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable

from detrex.utils.errors import InputError

NAMES = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


def prepare(name: str, options: dict) -> Callable[[], list[dict]]:
    """Return the function that measures the rows of one benchmark.

    Raises:
        InputError: an option that this benchmark does not take.
    """
    run = importlib.import_module(f"benchmarks.{name}").run
    for option in options.keys() - inspect.signature(run).parameters.keys():
        raise InputError(f"--{option.replace('_', '-')}: benchmark {name} does not take it")
    return functools.partial(run, **options)


def line(row: dict) -> str:
    """One row as text: times in milliseconds, everything else as it is."""
    figures = []
    for key, value in row.items():
        if key.endswith("_s") and not key.endswith("per_s"):
            figures.append(f"{key[:-2]} {value * 1e3:.1f} ms")
        elif key == "ratio":
            figures.append(f"{value:.1f}x")
        elif key != "what":
            number = f"{value:.4g}" if isinstance(value, float) else value
            figures.append(f"{key.replace('_', ' ')} {number}")
    return f"{row['what']}: {', '.join(figures)}"
