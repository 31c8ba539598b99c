"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""


class InputError(ValueError):
    """A config, command line, data set or checkpoint that cannot be used.

    The message is one line that names the file, key or value and says what to do; the command
    line prints it without a traceback and exits with status 2.
    """
