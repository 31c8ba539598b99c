"""Text of messages."""

from __future__ import annotations

import re
from collections.abc import Sequence

_JOINERS = "\u200c\u200d"  # join letters and emoji; invisible by themselves


def printable(text: str) -> str:
    """Return the text in one line, with control characters, line ends and the like as escapes
    ("\\x1b").

    Names of files and classes may be untrusted: printed as they are, they could move a terminal's
    cursor or change its colours.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape").decode() for c in text
    )


def printable_lines(text: str) -> str:
    """Return a text of several lines, each :func:`printable`."""
    return "\n".join(map(printable, text.split("\n")))


def first_few(names: Sequence[str], count: int = 3, separator: str = ", ") -> str:
    """Return the first ``count`` names, with an ellipsis if there are more: "a, b, c, ..."."""
    return separator.join([*names[:count], *(["..."] if len(names) > count else [])])


def first_line(error: Exception | str) -> str:
    """Return the first line of an exception's message, "" if there is none."""
    return (str(error).splitlines() or [""])[0]


def literal(text: str) -> str:
    """Return a text escaped for omegaconf, for which "${" refers to another key."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
