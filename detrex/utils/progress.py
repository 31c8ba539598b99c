"""A progress bar on a terminal, below the lines of the log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

Bar = Callable[[int, int, str], None]  # iterations done, of how many, and a text


@contextmanager
def terminal_bar(loggers: Sequence[str], shown: str) -> Iterator[Bar | None]:
    """Give a function that draws the bar; None where the output is no terminal.

    Args:
        loggers: names of the loggers whose lines go above the bar.
        shown: name of the logger whose lines the bar replaces; files have them all the same.
    """
    if not sys.stdout.isatty():
        yield None
        return
    from rich.console import Console
    from rich.file_proxy import FileProxy
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(file=sys.stdout)
    if console.is_dumb_terminal:
        yield None
        return
    # Drawn by this thread alone: processes that load data are forked, and a thread of rich's could
    # hold its lock at that moment.
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False)
    progress = Progress(*columns, console=console, auto_refresh=False, redirect_stderr=False)
    above, stdout = FileProxy(console, sys.stdout), sys.stdout
    handlers = [h for name in loggers for h in logging.getLogger(name).handlers]
    handlers = [h for h in handlers if getattr(h, "stream", None) is stdout]

    def other(record: logging.LogRecord) -> bool:
        return record.name != shown

    for handler in handlers:
        handler.setStream(above)
        handler.addFilter(other)
    progress.start()
    console.show_cursor()  # a process that is killed would leave it hidden
    task = progress.add_task("", total=None)
    try:
        yield lambda done, total, text: progress.update(
            task, completed=done, total=total, description=text, refresh=True
        )
    finally:
        progress.stop()
        for handler in handlers:
            handler.setStream(stdout)
            handler.removeFilter(other)
