"""Values that upstream's configs say twice."""

from __future__ import annotations

from torch import nn


def check_repeated(part: str, module: nn.Module, **values: object) -> None:
    """Compare values that upstream's configs repeat in a part of the model with the model's.

    An attribute of the part that is missing or None follows the model.

    Raises:
        ValueError: naming the key, what it is and what the model needs.
    """
    for name, value in values.items():
        repeated = getattr(module, name, None)
        if repeated not in (None, value):
            raise ValueError(f"model.{part}.{name} is {repeated}, the model needs {value}")
