"""Exceptions that mean that the input is wrong, not the program."""

from detrex.utils.text import printable


class InputError(ValueError):
    """A config, command line, data set or checkpoint that cannot be used.

    The message is one line that names the file, key or value and says what to do; a command prints
    it without a traceback and exits with status 2. Control characters in it are escaped: names in
    it may come from untrusted files.
    """

    def __init__(self, message: object = "") -> None:
        text = str(message)
        if text.startswith("Caught "):  # with the traceback of a loading process, by torch
            text = text.strip().splitlines()[-1].partition("Error: ")[2]
        super().__init__(printable(text))


class StorageError(InputError):
    """A file that could not be read because disk or network failed; it may be intact."""


class AssertedError(InputError, AssertionError):
    """An input error where upstream has an ``assert``; code may catch either one."""
