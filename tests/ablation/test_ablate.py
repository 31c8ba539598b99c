"""The command line of tools/ablate.py."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from detrex.ablation import schedule
from tests.models import ROOT

TINY = str(ROOT / "tests/train/tiny_config.py")


@pytest.fixture
def ablate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path):
    """Runs the command in this process; returns exit status, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ablate.py", *arguments, "-o", str(tmp_path)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / "tools/ablate.py"), run_name="__main__")
        return end.value.code, *capsys.readouterr()

    return run


def test_table_of_what_is_there(ablate, tmp_path: Path) -> None:
    grid = ["--config-file", TINY, "--grid", "model.width=[4,8]", "--seeds", "2", "--table-only"]
    code, output, _ = ablate(*grid)
    assert code == 0 and "| width=4   | 0 of 2 | -" in output
    (table,) = tmp_path.glob("tiny_config_*.md")
    assert f"- width=8: `{TINY} model.width=8`" in table.read_text()
    assert table.with_suffix(".csv").exists() and table.with_suffix(".tex").exists()
    before = table.read_text()
    ablate("--config-file", TINY, "--grid", "model.width=[4]", "--table-only")
    assert len([*tmp_path.glob("tiny_config_*.md")]) == 2 and table.read_text() == before
    ablate(*grid)
    assert len([*tmp_path.glob("tiny_config_*.md")]) == 2


def test_failures_end_with_a_status_and_interrupts_with_another(
    ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "start", _unstartable)
    code, output, errors = ablate("--config-file", TINY, "--set", "model.width=4")
    assert code == 1 and "| tiny_config | 0 of 1 | -" in output
    assert errors.startswith("failed: tiny_config, seed 0: the folder is in use (")
    monkeypatch.setattr(schedule, "start", _interrupted)
    code, _, errors = ablate("--config-file", TINY)
    assert (code, errors) == (130, "interrupted: the same command continues\n")


def _unstartable(job, environment):
    raise schedule.InputError("the folder is in use")


def _interrupted(job, environment):
    raise KeyboardInterrupt
