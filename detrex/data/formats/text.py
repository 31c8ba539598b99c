"""Text of annotation files from any program: its encoding, its lines and its numbers."""

from __future__ import annotations

import codecs
import json
import math
import os
import re
from pathlib import Path
from typing import IO

from detrex.utils.errors import InputError

# Longer marks first: UTF-32's begins as UTF-16's.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
GUESS = "cp1252"  # for text without a mark that is not UTF-8
_LARGEST = 1e9  # a coordinate beyond is no pixel and may overflow later


def open_text(path: str | os.PathLike) -> IO[str]:
    """Open a text file in the encoding of its byte order mark, else UTF-8, else Windows-1252.

    Line ends stay as they are.
    """
    return open(path, encoding=encoding(path), errors="replace", newline="")


def encoding(path: str | os.PathLike) -> str:
    """Return the encoding in which :func:`open_text` opens a file."""
    with open(path, "rb") as stream:
        start = stream.read(1 << 20)
        if name := next((name for mark, name in _MARKS.items() if start.startswith(mark)), None):
            return name
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while start:
                decoder.decode(start)
                start = stream.read(1 << 20)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return GUESS
    return "utf-8"


def read_text(path: str | os.PathLike) -> str:
    """Return the whole text of a file, opened by :func:`open_text`."""
    with open_text(path) as stream:
        return stream.read()


def read_lines(path: str | os.PathLike) -> list[tuple[int, str]]:
    """Return (number from 1, text) of the lines that are not blank, stripped."""
    lines = enumerate(re.split("\r\n|\r|\n", read_text(path)), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def load_json(path: str | os.PathLike) -> object:
    """Return the content of a JSON file. Raises InputError if it is not JSON."""
    try:
        with open_text(path) as stream:
            return json.load(stream)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a JSON file ({error})") from None


def number(value: object) -> float:
    """Return a coordinate that is written as text or in JSON.

    Raises:
        ValueError: it is no number (also ``0_1``, a number in Python only), not finite, or beyond
            1e9.
    """
    text = str(value)
    try:
        result = float("none" if "_" in text else text)
    except ValueError:
        result = math.nan
    if not abs(result) < _LARGEST:
        raise ValueError(f"{text[:40]!r} is not a usable number")
    return result


def is_number(text: str) -> bool:
    """Whether :func:`number` accepts a text."""
    try:
        number(text)
    except ValueError:
        return False
    return True


def read_names(path: Path) -> list[str]:
    """Return class names, one per line."""
    return [line for _, line in read_lines(path)]
