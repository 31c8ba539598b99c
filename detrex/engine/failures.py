"""How a run ends when it cannot go on: one line if the user can fix it, else a traceback."""

from __future__ import annotations

import traceback

from detrex.utils.errors import InputError


class NonFiniteLoss(ArithmeticError):
    """A loss or the gradient's norm became NaN or infinite. The message is one line."""


def describe_failure(error: BaseException) -> tuple[int, str]:
    """Return (exit status, text for stderr): 2 for bad input, 1 for anything else."""
    if isinstance(error, InputError | NonFiniteLoss):
        return (2 if isinstance(error, InputError) else 1), f"error: {_one_line(error)}"
    return 1, "".join(traceback.format_exception(error)).rstrip()


def _one_line(error: BaseException) -> str:
    """Undo the traceback that a DataLoader worker wraps around its error's message."""
    text = str(error).strip()
    return text.splitlines()[-1].partition("Error: ")[2] if text.startswith("Caught ") else text
