"""Standard output and error that may be closed, or lose their reader, without ending a program."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def outlive_readers() -> None:
    """From here on a stream that is closed, or whose reader has gone, takes text and drops it.

    A program that was started without streams (``>&-``) has none, and Python raises an error at
    every line for one whose pipe or terminal has gone.
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
        """Also what the stream still holds: Python writes it when it ends."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)
