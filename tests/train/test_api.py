"""Runs from Python: ``detrex.train``, ``detrex.evaluate``, ``detrex.check``."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import detrex
from detrex.utils.errors import InputError
from tests.data import layouts
from tests.models import ROOT

TINY = str(ROOT / "tests/train/tiny_config.py")
OVERRIDES = ["train.max_iter=4", "train.eval_period=2", "dataloader.train.num_workers=0"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a data set of three classes."""
    monkeypatch.chdir(tmp_path)
    layouts.write_yolo(tmp_path / "bugs")
    return tmp_path


def handlers() -> list:
    return [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_a_data_set_is_checked_trained_on_and_scored(folder, capsys):
    before = handlers()
    checked = detrex.check("bugs", model=TINY)
    assert str(checked).startswith("bugs: YOLO layout\ntrain: 3 images")
    assert "<pre>bugs: YOLO layout" in checked._repr_html_() and not capsys.readouterr().out
    config = folder / "output/data/bugs/tiny_config.py"
    assert checked.config_file.samefile(config)
    config.write_text(config.read_text() + "train.log_period = 1\n")
    run = detrex.train("bugs", model=TINY, epochs=3, overrides=OVERRIDES[1:])
    assert "iter 1/3" in capsys.readouterr().out  # of three images, four at a time
    assert run.folder == Path("output/bugs_tiny_config") and run.checkpoint.is_file()
    assert [line["iteration"] for line in run.metrics if "total_loss" in line] == [0, 1, 2]
    scores = detrex.evaluate(run.checkpoint)
    assert scores["bbox"].keys() == run.scores["bbox"].keys() >= {"AP", "AP50", "APs"}
    assert scores["bbox"]["AP"] == pytest.approx(run.scores["bbox"]["AP"], nan_ok=True)
    rows = run._repr_html_().split("<tr>")
    assert len(rows) == 4 and rows[2].startswith("<td>2</td>") and rows[3].startswith("<td>3</td>")
    assert handlers() == before


def test_the_config_file_stays_as_the_user_left_it(folder):
    config = detrex.check("bugs", TINY).config_file
    written = config.read_text()
    config.write_text("mine = 1")
    with pytest.raises(InputError, match="does not define"):
        detrex.check("bugs", TINY)
    assert config.read_text() == "mine = 1"
    assert detrex.check("bugs", TINY, overwrite=True).config_file.read_text() == written
