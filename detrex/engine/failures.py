"""How a run ends when it cannot go on: one line if the user can fix it, else a traceback."""

from __future__ import annotations

import errno
import traceback

from detrex.utils.errors import InputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NonFiniteLoss(ArithmeticError):
    """A loss or the gradient's norm became NaN or infinite. The message is one line."""


def describe_failure(error: BaseException) -> tuple[int, str]:
    """Return (exit status, text for stderr): 2 for bad input, 1 for anything else.

    A file or a disk that cannot be used needs no traceback either, only its name.
    """
    if isinstance(error, InputError | NonFiniteLoss):
        return (2 if isinstance(error, InputError) else 1), f"error: {_one_line(error)}"
    if isinstance(error, OSError) and error.filename:
        return 1, f"error: {error}"
    cause: BaseException | None = error
    while cause is not None:  # torch.save raises an error of its own while it handles this one
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return 1, f"error: {cause}: what this run writes does not fit"
        cause = cause.__context__
    return 1, "".join(traceback.format_exception(error)).rstrip()


def _one_line(error: BaseException) -> str:
    """Undo the traceback that a DataLoader worker wraps around its error's message."""
    text = str(error).strip()
    return text.splitlines()[-1].partition("Error: ")[2] if text.startswith("Caught ") else text
