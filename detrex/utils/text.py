"""Parts of messages."""

from __future__ import annotations

import re
from collections.abc import Sequence

_JOINERS = "\u200c\u200d"  # of letters and emoji; they print nothing by themselves


def printable(text: str) -> str:
    """The text in one line, without what moves a terminal's cursor, colours or reading direction.

    Names of files and classes come from anybody. Control characters, line ends, surrogates of
    undecodable bytes and the like become their escapes ("\\x1b").
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape").decode() for c in text
    )


def printable_lines(text: str) -> str:
    """:func:`printable` for a text of several lines, which stay."""
    return "\n".join(map(printable, text.split("\n")))


def first_few(names: Sequence[str], count: int = 3, separator: str = ", ") -> str:
    """The first ``count`` names, and an ellipsis where there are more: "a, b, c, ..."."""
    return separator.join([*names[:count], *(["..."] if len(names) > count else [])])


def first_line(error: Exception | str) -> str:
    """The first line of what an exception says; empty if it says nothing."""
    return (str(error).splitlines() or [""])[0]


def literal(text: str) -> str:
    """What omegaconf gives back as this text: "${" would refer to another key."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
