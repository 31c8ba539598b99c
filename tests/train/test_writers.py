import io
import logging
import re
import sys

import pytest
from detectron2.utils.events import EventStorage

from detrex.utils.events import BoundedStorage, ConsoleWriter
from detrex.utils.progress import terminal_bar


def test_console_line_has_progress_time_left_and_main_losses(caplog):
    writer = ConsoleWriter(max_iter=100)
    with EventStorage(0) as storage, caplog.at_level(logging.INFO):
        writer.write()  # nothing yet
        for storage.iter in range(40):
            storage.put_scalars(
                smoothing_hint=False,
                total_loss=3.25,
                loss_class=1.5,
                loss_class_0=9.0,
                loss_bbox_one2many=8.0,
                lr=1e-4,
                data_time=0.25,
                time=2.0,
            )
        writer.write()
        storage.iter = 100
        writer.write()  # after the last iteration
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("iter 40/100  eta 0:02:00  total_loss 3.25  loss_class 1.5  lr 0.0001")
    assert "2.000 s/it  data 0.250 s" in line and "one2many" not in line and "_0" not in line


def test_storage_keeps_the_last_values_only():
    with BoundedStorage(7, length=3) as storage:
        for value in (9.0, 1.0, 2.0, 6.0):
            storage.put_scalar("loss", value)
            storage.step()
    assert storage.history("loss").values() == [(1.0, 8), (2.0, 9), (6.0, 10)]
    assert storage.latest()["loss"] == (6.0, 10)
    assert storage.latest_with_smoothing_hint(20)["loss"] == (2.0, 10)
    assert storage.history("loss").global_avg() == 4.5


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_a_terminal(monkeypatch):
    """A terminal as standard output, and a log that goes there and into a file."""
    terminal, file = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    log = logging.getLogger("detrex")
    monkeypatch.setattr(log, "handlers", [logging.StreamHandler(s) for s in (terminal, file)])
    monkeypatch.setattr(log, "level", logging.INFO)
    return terminal, file


def test_a_terminal_has_a_bar_and_the_file_lines(monkeypatch):
    screen, file = on_a_terminal(monkeypatch)
    handler, other = logging.getLogger("detrex").handlers
    with terminal_bar(["detrex"], "detrex.utils.events") as bar, EventStorage(0) as storage:
        writer = ConsoleWriter(max_iter=100, bar=bar)
        storage.put_scalars(smoothing_hint=False, total_loss=3.25, data_time=0.25)
        writer.write()
        logging.getLogger("detrex.train").info("saved [bold]x[/bold]")
    assert file.getvalue() == ("iter 1/100  total_loss 3.25  data 0.250 s\nsaved [bold]x[/bold]\n")
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", screen.getvalue())
    assert "1/100 total_loss 3.25  data 0.250 s" in shown and "iter 1/100" not in shown
    assert "saved [bold]x[/bold]\n" in shown
    assert screen.getvalue().count("\x1b[?25h") >= screen.getvalue().count("\x1b[?25l")  # cursor
    assert handler.stream is screen and not handler.filters and other.stream is file


def test_no_bar_where_nobody_sees_it(monkeypatch):
    on_a_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    with terminal_bar(["detrex"], "detrex.utils.events") as bar:
        assert bar is None
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with terminal_bar(["detrex"], "detrex.utils.events") as bar:
        assert bar is None


def test_the_log_goes_on_when_a_run_fails(monkeypatch):
    screen, _ = on_a_terminal(monkeypatch)
    with pytest.raises(KeyError), terminal_bar(["detrex"], "detrex.utils.events"):
        raise KeyError
    assert logging.getLogger("detrex").handlers[0].stream is screen
