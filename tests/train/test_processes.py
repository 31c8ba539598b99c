"""Several real processes: preempted, killed, crashed, on two machines; nothing is lost."""

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch

from detrex.train.folder_lock import LOCK
from detrex.train.launch import _free_port
from detrex.train.preemption import PREEMPTED
from tests.train import processes
from tests.train.test_launch import STARTERS, TOOL, call
from tests.train.tiny import write_data

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def assert_close(run, name, other):
    ours, theirs = (run.checkpoint(n)["model"] for n in (name, other))
    for key, value in theirs.items():
        if key != "batches":
            torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-5)


def test_stopped_then_restarted_by_torchrun_after_a_kill_two_processes_equal_one(tiny_run):
    options = ["train.max_iter=200", "train.checkpointer.period=7", "optimizer.lr=1e-4"]
    tiny_run("one", *options)
    folder = tiny_run.folder / "two"
    command = tiny_run.args("two", *options, "--resume")
    launcher = subprocess.Popen([sys.executable, TOOL, "--num-gpus", "2", *command])
    while processes.iterations(folder) < 9:
        assert launcher.poll() is None
        time.sleep(0.001)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(timeout=60) == PREEMPTED
    stopped = tiny_run.checkpoint("two", (folder / "last_checkpoint").read_text())["iteration"]
    assert stopped < 185
    kill = [f"model.fail_at={stopped + 9}", "model.fail_rank=1", "model.fail_how=die_once"]
    result = call(*TORCHRUN, "--max-restarts=1", TOOL, *command, *kill)
    assert result.returncode == 0, result.stderr
    assert "(exitcode: -9)" in result.stderr
    assert_close(tiny_run, "two", "one")
    numbers = [processes.metrics(tiny_run.folder / name) for name in ("two", "one")]
    assert numbers[0].keys() == numbers[1].keys()


@pytest.mark.parametrize("count", [1, 2])
def test_ctrl_c_in_a_terminal_saves_the_step(tiny_run, count):
    options = [
        "train.max_iter=2000",
        "train.checkpointer.period=0",
        "dataloader.train.num_workers=1",
    ]
    folder = tiny_run.folder / "a"
    command = [sys.executable, TOOL, "--num-gpus", str(count), *tiny_run.args("a", *options)]
    with (tiny_run.folder / "log").open("w") as log:
        run = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    while processes.iterations(folder) < 3:
        assert run.poll() is None
        time.sleep(0.001)
    while run.poll() is None:  # until the very end; workers and launcher, too
        os.killpg(run.pid, signal.SIGINT)
        time.sleep(0.05)
    assert run.wait() == PREEMPTED
    saved = tiny_run.checkpoint("a", "model_latest.pth")["iteration"]
    text = (tiny_run.folder / "log").read_text()
    stopped = f"stopped by a signal after iteration {saved}; --resume continues" in text
    # A signal after the checkpoint ends a process that waits for the other one.
    assert stopped or "ended by a signal; --resume continues from the last checkpoint" in text
    assert "Traceback" not in text


def test_background_job_goes_on_when_a_terminal_interrupts_and_goes(tiny_run):
    ignored = [signal.SIGINT, signal.SIGHUP]  # as by nohup and &
    command = tiny_run.args("a", "train.max_iter=200", "train.checkpointer.period=0")
    run = subprocess.Popen(
        [sys.executable, TOOL, *command],
        preexec_fn=lambda: [signal.signal(number, signal.SIG_IGN) for number in ignored],
    )
    while processes.iterations(tiny_run.folder / "a") < 3:
        assert run.poll() is None
        time.sleep(0.001)
    for number in ignored:
        run.send_signal(number)
    assert run.wait(timeout=120) == 0


def test_two_machines_with_two_processes_each_equal_one(tiny_run, tmp_path):
    """11 images on 4 processes: each is scored once."""
    tiny_run.data = write_data(tmp_path / "eleven", count=11)
    tiny_run("one")
    machines = ["--num-machines", "2", "--num-gpus", "2"]
    machines += ["--dist-url", f"tcp://127.0.0.1:{_free_port()}"]
    command = [sys.executable, TOOL, *machines, *tiny_run.args("four")]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen([*command, "--machine-rank", str(rank)], env=env) for rank in (0, 1)]
    assert [machine.wait(timeout=300) for machine in both] == [0, 0]
    assert_close(tiny_run, "four", "one")
    files = [tiny_run.folder / n / "coco_instances_results.json" for n in ("four", "one")]
    results = [sorted(json.loads(f.read_text()), key=lambda r: r["image_id"]) for f in files]
    assert [r["image_id"] for r in results[0]] == list(range(11))
    for ours, theirs in zip(*results, strict=True):
        assert ours["bbox"] == pytest.approx(theirs["bbox"], rel=1e-3)


@pytest.mark.parametrize("starter", STARTERS.values(), ids=STARTERS)
def test_processes_end_by_themselves_when_their_launcher_is_killed(tiny_run, starter):
    options = ["train.max_iter=1000000", "train.checkpointer.period=0"]
    run = subprocess.Popen(
        [sys.executable, *starter, *tiny_run.args("a", *options)],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        start_new_session=True,
    )
    while processes.iterations(tiny_run.folder / "a") < 3:
        assert run.poll() is None
        time.sleep(0.001)
    run.kill()
    run.wait()
    lock = (tiny_run.folder / "a" / LOCK).open("a")
    fcntl.lockf(lock, fcntl.LOCK_EX)  # the run holds it as long as it lives
    assert tiny_run.checkpoint("a", "model_latest.pth")["iteration"] >= 3


def test_killed_process_is_named(tiny_run):
    killed = ["model.fail_at=3", "model.fail_rank=1", "model.fail_how=die"]
    result = call(TOOL, "--num-gpus", "2", *tiny_run.args("a", *killed))
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: rank 1 of the run was killed by SIGKILL, perhaps by the system")


def test_closed_streams_and_broken_pipes_end_nothing(tiny_run):
    command = [sys.executable, TOOL, "--num-gpus", "2", *tiny_run.args("closed")]
    closed = subprocess.run(["bash", "-c", f"exec {shlex.join(command)} >&- 2>&-"], timeout=300)
    assert closed.returncode == 0
    command = [sys.executable, TOOL, *tiny_run.args("pipe", "train.log_period=1")]
    lines = f"set -o pipefail; {shlex.join(command)} | head -1"
    broken = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, timeout=300)
    assert (broken.returncode, broken.stderr) == (0, "")
    assert len(processes.metrics(tiny_run.folder / "pipe")) > 8


def test_crash_of_one_process_ends_all_with_its_traceback_last(tiny_run):
    crash = ["model.fail_at=3", "model.fail_rank=1", "model.fail_how=crash"]
    result = call(TOOL, "--num-gpus", "2", *tiny_run.args("a", *crash))
    ended = time.time()
    assert result.returncode == 1
    first, *_, last = result.stderr.strip().splitlines()
    assert first.startswith("Traceback") and last.startswith("RuntimeError: a bug at ")
    assert ended - float(last.split()[-1]) < 60
