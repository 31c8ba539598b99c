"""What every table of refusals asks of an error: its type, one line, and what it names.

A row is a case: an action that is refused, and the keys, values and files that the user must read.
How the sentence goes is not asserted.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from detrex.utils.errors import InputError


@contextmanager
def refused(*names: str, error: type[Exception] = InputError) -> Iterator[pytest.ExceptionInfo]:
    """What is done inside ends with an ``error`` of one line that holds every name."""
    with pytest.raises(error) as raised:
        yield raised
    message = str(raised.value)
    missing = [name for name in names if name not in message]
    assert not missing, f"{missing} not in: {message}"
    assert "\n" not in message


def assert_refused(
    request: pytest.FixtureRequest,
    action: Callable[..., object],
    *names: str,
    error: type[Exception] = InputError,
) -> Exception:
    """The error of ``action``, which is called with the fixtures that its arguments name."""
    fixtures = {
        name: request.getfixturevalue(name) for name in inspect.signature(action).parameters
    }
    with refused(*names, error=error) as raised:
        action(**fixtures)
    return raised.value
