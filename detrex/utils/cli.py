"""How a command ends when its input is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable

from detrex.utils.errors import InputError


def run_command(main: Callable[[], None]) -> None:
    """Call ``main``; an ``InputError``, or a file that the system refuses, becomes one ``error:``
    line on stderr and exit status 2."""
    try:
        main()
    except (InputError, OSError) as error:
        if isinstance(error, OSError):
            if error.filename is None:
                raise
            error = f"{error.filename}: {error.strerror}"
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
