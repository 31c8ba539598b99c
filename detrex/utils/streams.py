"""Standard output and error whose loss does not end a program."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def outlive_readers() -> None:
    """Make standard output and error drop their text once they are closed or have no reader.

    A program that was started without streams (``>&-``) has none; and for one whose pipe or
    terminal has gone, Python raises an error at every line.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w")
        if not isinstance(stream, _Outliving):
            setattr(sys, name, _Outliving(stream))


class _Outliving:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        """Drop also what is in the stream's buffer: Python writes it at its end."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)
