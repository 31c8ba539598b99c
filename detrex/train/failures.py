"""How a failed run ends: with one line if the user can fix it, else with a traceback."""

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
    """A loss became NaN or infinite, or the gradient's norm did. The message is one line.

    Args:
        message: names the loss, the iteration and the images.
        consequence: another process may have had the loss that is the reason.
    """

    def __init__(self, message: str, consequence: bool = False) -> None:
        super().__init__(message)
        self.consequence = consequence


class SilentProcess(ConnectionError):
    """Another process of the run has been silent for too long. The message is one line."""


def describe_failure(error: BaseException) -> tuple[int, str]:
    """Return (exit status, text for stderr): 2 for bad input, 1 for anything else.

    A file or disk that cannot be used, or another process that has ended, gets one line as well.
    """
    try:
        if isinstance(error, ConnectionError | EOFError):
            time.sleep(1)  # a loading process may have been killed: torch then raises its own error
        return _describe(error)
    except RuntimeError as cause:  # torch's signal handler may raise it anywhere
        return _describe(cause)


def _describe(error: BaseException) -> tuple[int, str]:
    if isinstance(error, InputError | NonFiniteLoss):
        return (2 if isinstance(error, InputError) else 1), f"error: {error}"
    if (line := _of_loading(error) or _of_others(error)) is not None:
        return 1, f"error: {line}"
    system = _of_system(error)
    full = system is not None and system.errno in _FULL
    if full or (isinstance(error, OSError) and error.filename):
        for cause in _causes(error):  # the run may have failed before the file did
            if isinstance(cause, InputError | NonFiniteLoss):
                code, text = _describe(cause)
                return code, f"{text}; then: {reason_of(error)}"
        return (
            1,
            f"error: {system}: what this run writes does not fit" if full else f"error: {error}",
        )
    return 1, "".join(traceback.format_exception(error)).rstrip()


def reason_of(error: BaseException) -> str:
    """Return what went wrong, for the end of a message; the system's words if it is its error."""
    system = _of_system(error)
    return (system and system.strerror) or first_line(error) or type(error).__name__


def is_consequence(error: BaseException) -> bool:
    """Whether the error may only say that another process of the run has failed."""
    if isinstance(error, NonFiniteLoss):
        return error.consequence
    return isinstance(error, dist.DistError | SilentProcess) or "gloo/" in str(error)


def ended_by(number: int) -> str:
    """Return what a signal has done to a process: "was killed by SIGKILL, perhaps by ..."."""
    hint = _HINTS.get(number)
    return f"was killed by {signal.Signals(number).name}" + (f", {hint}" if hint else "")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then those that led to it, the latest first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _of_system(error: BaseException) -> OSError | None:
    """Return the system's error; torch.save raises one of its own while it handles that."""
    return next((cause for cause in _causes(error) if isinstance(cause, OSError)), None)


def _of_loading(error: BaseException) -> str | None:
    """Return a line about a loading process that has ended or is stuck.

    torch raises plain RuntimeErrors, in a signal handler also while another error is handled.
    """
    for text in map(str, _causes(error)):
        if match := _TIMED_OUT.match(text):
            return (
                f"no batch from the loading processes for {int(match[1]) // 60} minutes: a disk "
                "does not answer, or they are stopped; dataloader.train.num_workers=0 shows where"
            )
        if text.startswith("Too many open files"):  # each tensor that a process sends takes one
            return "too many open files: raise `ulimit -n`, or take fewer dataloader.*.num_workers"
        if match := _WORKER.match(text):
            return f"loading process {match[1]} {_end_of_worker(match[2])}"
    return None


def _end_of_worker(text: str) -> str:
    for number in signal.valid_signals():
        name = signal.strsignal(number)
        if name and text.startswith(f"is killed by signal: {name}"):
            return ended_by(number)
    code = re.search(r"exit code (\d+)", text)
    return f"has ended with exit code {code[1]}" if code else f"was killed, {_MEMORY}"


def _of_others(error: BaseException) -> str | None:
    """Return a line about another process of the run that has ended or no longer answers."""
    if isinstance(error, SilentProcess):
        return str(error)
    if not is_consequence(error):
        return None
    text = " ".join(str(error).split())
    if "timed out" in text.lower() or "timeout" in text.lower():
        return (
            "another process of the run did not answer in time: it is stopped, or busy with "
            f"something else; torch says: {text[:200]}"
        )
    if any(word in text.lower() for word in ("closed by peer", "reset by peer", "broken pipe")):
        return "another process of the run has ended; what it said before is the reason"
    return None
