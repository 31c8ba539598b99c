"""The exceptions that mean "the input is wrong", as opposed to "the program is wrong"."""

from detrex.utils.text import printable


class InputError(ValueError):
    """A config, command line, data set or checkpoint that cannot be used.

    The message is one line that names the file, key or value and says what to do; the command
    line prints it without a traceback and exits with status 2. Names that it holds may be a
    stranger's: characters that a terminal would obey are written out.
    """

    def __init__(self, message: object = "") -> None:
        text = str(message)
        if text.startswith("Caught "):  # torch wraps the traceback of a loading process around it
            text = text.strip().splitlines()[-1].partition("Error: ")[2]
        super().__init__(printable(text))


class StorageError(InputError):
    """A file that could not be read because disk or network failed; it may be sound."""


class AssertedError(InputError, AssertionError):
    """An input error where upstream has an ``assert``: code that catches either one works."""
