"""Small files of a run's folder that are missing or damaged."""

import json
import logging

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detrex.checkpoint import files
from detrex.train.checkpoints import newest_checkpoint
from detrex.train.folder import check_output_folder, put_events_in_order
from detrex.utils.errors import InputError

NO_PERIOD = "train.checkpointer.period=0"


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".txt"}


def copy_as(run, name, iteration):
    """A checkpoint of this name that says it is of this iteration."""

    content = run.checkpoint("a")
    torch.save({**content, "iteration": iteration}, run.folder / "a" / name)


def test_a_finished_model_is_not_replaced_when_last_checkpoint_is_lost(tiny_run):
    tiny_run("a", NO_PERIOD)
    folder = tiny_run.folder / "a"
    (folder / "last_checkpoint").unlink()
    for name in ("model_final.pth", "model_best.pth"):  # one after the other is all there is
        before = contents(folder)
        with pytest.raises(InputError, match=rf"holds checkpoints \(.*{name}.*\): give --resume"):
            tiny_run("a", NO_PERIOD)
        assert contents(folder) == before
        if name == "model_final.pth":
            tiny_run("a", NO_PERIOD, "train.max_iter=10", "--resume")
            log = (folder / "log.txt").read_text()
            assert f"resuming from the newest checkpoint, {folder / name}" in log
            assert tiny_run.checkpoint("a")["iteration"] == 9
            (folder / "last_checkpoint").unlink()
            (folder / name).unlink()
    with pytest.raises(InputError, match="model_best.pth cannot be resumed from"):
        tiny_run("a", NO_PERIOD, "--resume")


@pytest.mark.parametrize("tag", [None, b"", b"\xff\xfe", b"notes.txt", b"x" * 9999, b"\0.pth", "/"])
def test_the_newest_checkpoint_is_told_by_its_iteration(tiny_run, caplog, tag):
    tiny_run("a", "train.checkpointer.period=2")
    folder = tiny_run.folder / "a"
    (folder / "last_checkpoint").unlink()
    if tag == "/":
        (folder / "last_checkpoint").mkdir()
    elif tag is not None:
        (folder / "last_checkpoint").write_bytes(tag)
    assert newest_checkpoint(folder)[0] == folder / "model_final.pth"
    copy_as(tiny_run, "model_latest.pth", 9)
    assert newest_checkpoint(folder)[0] == folder / "model_latest.pth"
    copy_as(tiny_run, "model_0000011.pth", 11)
    assert newest_checkpoint(folder)[0] == folder / "model_0000011.pth"
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert all("\n" not in text and "last_checkpoint" in text for text in warnings)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", b"{", "not a JSON file"),
        ("run.json", b"\xff", "not a text file"),
        ("run.json", b'{"seed": "7"}', "seed is damaged"),
        ("run.json", b'{"config": 5}', "config is damaged"),
        ("run.json", b'{"matcher_change_iter": 5}', "matcher_change_iter is damaged"),
        ("run.json", b'{"seed": -5}', "seed is damaged"),
        ("run.json", b'{"seed": 1000000000000}', "seed is damaged"),
        ("best.json", b"[]", "holds a list"),
        ("best.json", b'{"value": NaN}', "value is no number"),
        ("best.json", b'{"value": "x"}', "value is no number"),
    ],
)
def test_a_damaged_file_ends_a_resumed_start_with_one_line(tmp_path, file, content, message):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=f"{file}: {message}") as error:
        check_output_folder(tmp_path, {}, resume=True, reuse=False)
    assert "\n" not in str(error.value)
    check_output_folder(tmp_path, {}, resume=False, reuse=True)


@pytest.mark.parametrize("config", [{"train": 5}, {"train": {}, "dataloader": [1]}])
def test_a_damaged_config_in_the_record_is_a_difference(tmp_path, caplog, config):
    (tmp_path / "run.json").write_text(json.dumps({"config": config, "seed": 1}))
    check_output_folder(tmp_path, {"train": {"seed": -1}}, resume=True, reuse=False)
    assert "resuming with a changed config: " in caplog.text


def test_the_best_weights_are_no_checkpoint_to_resume_from(tiny_run):
    tiny_run("a", NO_PERIOD)
    folder = tiny_run.folder / "a"
    (folder / "last_checkpoint").write_text("model_best.pth")
    assert newest_checkpoint(folder)[0] == folder / "model_final.pth"


def test_a_resumed_run_reads_its_checkpoint_once(tiny_run, monkeypatch):
    tiny_run("a", "train.max_iter=2")
    read = []
    check = files.check_archive
    monkeypatch.setattr(files, "check_archive", lambda path: read.append(path) or check(path))
    tiny_run("a", "train.max_iter=3", "--resume")
    assert read == [tiny_run.folder / "a/model_final.pth"]
    assert tiny_run.checkpoint("a")["iteration"] == 2


def test_damaged_lines_of_metrics_are_left_out_and_counted(tiny_run):
    tiny_run("a", "train.max_iter=4")
    path = tiny_run.folder / "a" / "metrics.json"
    first, *others = path.read_bytes().splitlines(keepends=True)
    odd = [b"[1]\n", b"\xff\xfe\n", b'{"iteration": "3"}\n', b'{"it\n']
    path.write_bytes(b"".join([first, *odd, *others, b'{"iteration": 9, "tot']))
    tiny_run("a", "train.max_iter=6", "--resume")
    log = (tiny_run.folder / "a/log.txt").read_text()
    assert "metrics.json: 4 damaged lines are left out" in log
    iterations = [json.loads(line)["iteration"] for line in path.open()]
    assert iterations == [1, 3, 4, 5, 6]


def test_the_checkpoint_of_an_interruption_goes_when_there_is_a_later_one(tiny_run):
    tiny_run("a", NO_PERIOD, "train.eval_period=3", "train.max_iter=5")
    names = [path.name for path in (tiny_run.folder / "a").glob("*.pth")]
    assert sorted(names) == ["model_best.pth", "model_final.pth"]


def test_the_best_score_on_other_validation_data_is_not_compared(tiny_run):
    tiny_run("a", "train.max_iter=4")
    path = tiny_run.folder / "a" / "best.json"
    best = json.loads(path.read_text())
    for val, expected in ((best["val"], 1000.0), ({"images": 1}, 0.0)):
        path.write_text(json.dumps({**best, "value": 1000.0, "val": val}))
        tiny_run("a", "--resume", "train.max_iter=8" if expected else "train.max_iter=9")
        assert (json.loads(path.read_text())["value"] == 1000.0) == bool(expected)


def test_tensorboard_shows_all_of_a_run_whose_clock_was_set_back(tiny_run):
    folder = tiny_run.folder / "a"
    for end, ahead in (("4", 9_000_000_000), ("6", 8_000_000_000), ("8", None)):
        tiny_run("a", f"train.max_iter={end}", "train.log_period=1", "--resume")
        newest = sorted(folder.glob("events*"))[-1]
        if ahead:
            newest.rename(folder / newest.name.replace(newest.name.split(".")[3], str(ahead)))
    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("total_loss")] == [*range(8)]


@pytest.mark.parametrize("seconds", [[9, 10], [10, 11], [9, 30, 20], [8, 9, 10, 10]])
def test_files_of_curves_stay_in_their_order(tmp_path, seconds):
    """Starts of the same second and of the one before, and a clock that was ahead."""
    for number, second in enumerate(seconds):
        put_events_in_order(tmp_path, second)
        (tmp_path / f"events.out.tfevents.{second:010d}.host.{number}").touch()
    put_events_in_order(tmp_path, 10)
    (tmp_path / f"events.out.tfevents.{10:010d}.host.{len(seconds)}").touch()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [int(name.rpartition(".")[2]) for name in names] == [*range(len(seconds) + 1)]
