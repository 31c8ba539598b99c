"""How a command ends when its input is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable

from detrex.utils.errors import InputError


def run_command(main: Callable[[], None]) -> None:
    """Call ``main``; an ``InputError`` becomes one ``error:`` line on stderr and exit status 2."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
