import errno
import fcntl
import json

import pytest

from detrex.train import folder_lock
from detrex.utils.errors import InputError
from tests.train import processes


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(folder_lock, "_PATIENCE", 0.0)


def hanging(tiny_run, *options):
    """A run in a process of its own that hangs in a step, after a checkpoint."""
    log = tiny_run.folder / "log"
    failure = ["model.fail_at=5", "model.fail_how=hang"]
    process = processes.start(tiny_run.args("a", *failure, *options), log)
    assert processes.wait_until(lambda: log.exists() and "hangs" in log.read_text(), process)
    return process


def test_second_run_is_refused_until_the_first_is_killed(tiny_run):
    folder = tiny_run.folder / "a"
    workers = "dataloader.train.num_workers=1"  # they live on for seconds
    process = hanging(tiny_run, workers)
    try:
        before = {path: path.read_bytes() for path in folder.iterdir()}
        for option in ("--resume", "--reuse-output"):
            with pytest.raises(InputError, match=f"another run is in output folder {folder}"):
                tiny_run("a", option)
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
    finally:
        process.kill()
    process.join()
    tiny_run("a", workers, "--resume")
    assert tiny_run.checkpoint("a")["iteration"] == 7


def test_folder_without_locks_is_warned_about_and_used(tiny_run, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    tiny_run("a")
    assert json.loads((tiny_run.folder / "a/run.json").read_text())["seed"] == 7
    assert "cannot be locked" in caplog.text


def test_lock_is_given_back_when_a_run_ends(tiny_run):
    for option in ("--resume", "--resume", "--reuse-output"):
        tiny_run("a", option, "train.max_iter=2")
    (tiny_run.folder / "a/model_final.pth").unlink()
    process = hanging(tiny_run, "--reuse-output")
    process.kill()
    process.join()
