"""How a run ends when it cannot go on: one line if the user can fix it, else a traceback."""

from __future__ import annotations

import errno
import re
import signal
import time
import traceback
from collections.abc import Iterator

import torch.distributed as dist

from detrex.utils.errors import InputError
from detrex.utils.text import first_line

from .heartbeat import SilentProcess

_MEMORY = (
    "perhaps by the system, for want of memory (see dmesg): a smaller batch, smaller images or "
    "fewer dataloader.train.num_workers need less"
)
_HINTS = {
    signal.SIGKILL: _MEMORY,
    signal.SIGBUS: "perhaps because /dev/shm is full: a container gets more by --shm-size=8g",
}
_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)")
_TIMED_OUT = re.compile(r"DataLoader timed out after (\d+)")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NonFiniteLoss(ArithmeticError):
    """A loss became NaN or infinite, or the gradient's norm did. The message is one line."""


def describe_failure(error: BaseException) -> tuple[int, str]:
    """Return (exit status, text for stderr): 2 for bad input, 1 for anything else.

    A file or a disk that cannot be used needs no traceback either, only its name, nor does another
    process that has ended.
    """
    try:
        if isinstance(error, ConnectionError | EOFError):
            time.sleep(1)  # perhaps to a loading process that has just been killed
        return _describe(error)
    except RuntimeError as cause:  # torch raises the end of a loading process wherever it hears it
        return _describe(cause)


def _describe(error: BaseException) -> tuple[int, str]:
    if isinstance(error, InputError | NonFiniteLoss):
        return (2 if isinstance(error, InputError) else 1), f"error: {error}"
    if (line := _of_loading(error) or _of_others(error)) is not None:
        return 1, f"error: {line}"
    system = _of_system(error)
    full = system is not None and system.errno in _FULL
    if full or (isinstance(error, OSError) and error.filename):
        if (first := _hidden_by(error)) is not None:
            code, text = _describe(first)
            return code, f"{text}; then: {reason_of(error)}"
        what = f"{system}: what this run writes does not fit" if full else str(error)
        return 1, f"error: {what}"
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


def is_consequence(error: BaseException) -> bool:
    """Whether it may only say that another process of the run has failed."""
    return isinstance(error, dist.DistError | SilentProcess) or "gloo/" in str(error)


def ended_by(number: int) -> str:
    """What a signal has done to a process, e.g. "was killed by SIGKILL, perhaps by ..."."""
    hint = _HINTS.get(number)
    return f"was killed by {signal.Signals(number).name}" + (f", {hint}" if hint else "")


def _of_loading(error: BaseException) -> str | None:
    """Of a loading process that has ended or is stuck: torch's word, which has no type, as a line.

    A signal's handler may raise it anywhere, so also while another error is handled.
    """
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause)
        if match := _TIMED_OUT.match(text):
            return (
                f"no batch from the loading processes for {int(match[1]) // 60} minutes: a disk "
                "does not answer, or they are stopped; dataloader.train.num_workers=0 shows where"
            )
        if text.startswith("Too many open files"):  # of what loading processes send
            return "too many open files: raise `ulimit -n`, or take fewer dataloader.*.num_workers"
        if match := _WORKER.match(text):
            return f"loading process {match[1]} {_end_of_worker(match[2])}"
        cause = cause.__cause__ or cause.__context__
    return None


def _end_of_worker(text: str) -> str:
    for number in signal.valid_signals():
        name = signal.strsignal(number)
        if name and text.startswith(f"is killed by signal: {name}"):
            return ended_by(number)
    code = re.search(r"exit code (\d+)", text)
    return f"has ended with exit code {code[1]}" if code else f"was killed, {_MEMORY}"


def _of_others(error: BaseException) -> str | None:
    """Of a process of the run that no longer answers."""
    if not is_consequence(error):
        return None
    if isinstance(error, SilentProcess):
        return str(error)
    text = str(error).lower()
    if "timed out" in text or "timeout" in text:
        return (
            "waited for another process of the run in vain: it is stopped, or busy with something "
            f"else; torch says: {_shortened(error)}"
        )
    if any(word in text for word in ("closed by peer", "reset by peer", "broken pipe")):
        return "another process of the run has ended; what it said before is the reason"
    return None


def _shortened(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
