"""Parts of messages."""

from __future__ import annotations

from collections.abc import Sequence


def first_few(names: Sequence[str], count: int = 3, separator: str = ", ") -> str:
    """The first ``count`` names, and an ellipsis where there are more: "a, b, c, ..."."""
    return separator.join([*names[:count], *(["..."] if len(names) > count else [])])


def first_line(error: Exception | str) -> str:
    """The first line of what an exception says; empty if it says nothing."""
    return (str(error).splitlines() or [""])[0]
