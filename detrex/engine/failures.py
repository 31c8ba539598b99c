"""How a run ends when it cannot go on: one line if the user can fix it, else a traceback."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator

from detrex.utils.errors import InputError
from detrex.utils.text import first_line

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NonFiniteLoss(ArithmeticError):
    """A loss became NaN or infinite, or the gradient's norm did. The message is one line."""


def describe_failure(error: BaseException) -> tuple[int, str]:
    """Return (exit status, text for stderr): 2 for bad input, 1 for anything else.

    A file or a disk that cannot be used needs no traceback either, only its name.
    """
    if isinstance(error, InputError | NonFiniteLoss):
        return (2 if isinstance(error, InputError) else 1), f"error: {_one_line(error)}"
    system = _of_system(error)
    full = system is not None and system.errno in _FULL
    if full or (isinstance(error, OSError) and error.filename):
        if (first := _hidden_by(error)) is not None:
            code, text = describe_failure(first)
            return code, f"{text}; then: {reason_of(error)}"
        return (
            1,
            f"error: {system}: what this run writes does not fit" if full else f"error: {error}",
        )
    return 1, "".join(traceback.format_exception(error)).rstrip()


def reason_of(error: BaseException) -> str:
    """What went wrong, for the end of a message: the system's word where it is its error."""
    system = _of_system(error)
    return (system and system.strerror) or first_line(error) or type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those during whose handling it was raised, the latest first."""
    while error is not None:
        yield error
        error = error.__context__


def _of_system(error: BaseException) -> OSError | None:
    """torch.save raises an error of its own while it handles the system's."""
    return next((cause for cause in _chain(error) if isinstance(cause, OSError)), None)


def _hidden_by(error: BaseException) -> InputError | NonFiniteLoss | None:
    """The reason of the end, where something else failed while the run ended because of it."""
    reasons = (e for e in _chain(error) if isinstance(e, InputError | NonFiniteLoss))
    return next(reasons, None)


def _one_line(error: BaseException) -> str:
    """Undo the traceback that a DataLoader worker wraps around its error's message."""
    text = str(error).strip()
    return text.splitlines()[-1].partition("Error: ")[2] if text.startswith("Caught ") else text
