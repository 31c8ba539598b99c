"""Common to all commands: argument types, and how a command ends when its input is wrong."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
from collections.abc import Callable

from detrex.utils.errors import InputError
from detrex.utils.streams import outlive_readers
from detrex.utils.text import printable, printable_lines

LOGGERS = ("detrex", "projects", "detectron2", "fvcore")  # whose messages a run logs


def write_out(record: logging.LogRecord) -> bool:
    """Filter a log record: it may hold names from untrusted files, see ``printable``."""
    record.msg, record.args = printable_lines(record.getMessage()), ()
    return True


def run_command(main: Callable[[], None]) -> None:
    """Call ``main``; an ``InputError`` or ``OSError`` of a file becomes one ``error:`` line on
    stderr and exit status 2.

    If the reader of the output has gone (``| head``), ``main`` still runs to its end.
    """
    outlive_readers()
    logging.lastResort.addFilter(write_out)
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except (InputError, OSError) as error:
        if isinstance(error, OSError):
            if error.filename is None:
                raise
            error = f"{error.filename}: {error.strerror}"
        print(printable(f"error: {error}"), file=sys.stderr)
        raise SystemExit(2) from None


def add_trust_config(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--trust-config``, for ``load_config``."""
    text = "run what a YAML config names outside of detrex and its libraries"
    parser.add_argument("--trust-config", action="store_true", help=text)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--set``, overrides for ``load_config``."""
    text = "other values in the config, e.g. model.nms_iou=0.9"
    parser.add_argument(
        "--set", dest="overrides", nargs="+", default=[], metavar="KEY=VALUE", help=text
    )


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add ``--threshold`` and ``--calibrated``, for ``Predictor``."""
    text = "least score; auto: each class's own from tools/calibrate.py (default: %(default)s)"
    parser.add_argument("--threshold", type=number_or_word, default=0.3, metavar="SCORE", help=text)
    text = "scores that mean what they say, from tools/calibrate.py"
    parser.add_argument("--calibrated", action="store_true", help=text)


def number_or_word(text: str) -> float | str:
    """Return a number, or what is none as it is: an argparse type."""
    with contextlib.suppress(ValueError):
        return float(text)
    return text


def whole(least: int = 1) -> Callable[[str], int]:
    """Return an argparse type: a whole number from ``least`` on."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return parse


def score(text: str) -> float:
    """Return a detection's score: an argparse type."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a score from 0 to 1")
