"""A process that stops beating is named; one that has said goodbye is not."""

import threading

import pytest
import torch.distributed as dist

from detrex.train import heartbeat
from detrex.train.failures import describe_failure, is_consequence
from detrex.train.heartbeat import Heartbeat


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(heartbeat, "_PERIOD", 0.05)
    monkeypatch.setattr(heartbeat, "_WARNING", 0.5)
    monkeypatch.setattr(heartbeat, "_LIMIT", 1.0)
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


class Failures:
    def __init__(self):
        self.errors, self.event = [], threading.Event()

    def __call__(self, error):
        self.errors.append(error)
        self.event.set()


@pytest.mark.parametrize("silent", [0, 1])
def test_silent_process_is_named(store, caplog, silent):
    failures = Failures()
    beats = {rank: Heartbeat(store, rank, 2, failures) for rank in (0, 1)}
    assert not failures.event.wait(1.5)  # longer than the limit: both beat
    beats[silent]._stopped.set()  # as if it were stopped
    assert failures.event.wait(60)
    beats[1 - silent].stop()
    status, text = describe_failure(failures.errors[0])
    assert status == 1 and is_consequence(failures.errors[0])
    assert text.startswith(f"error: rank {silent} of the run (process ")
    assert "no sign of life for 1 seconds: it is stopped" in text
    assert sum("no sign of life" in message for message in caplog.messages) == 1


def test_process_that_has_finished_is_not_missed(store):
    failures = Failures()
    beats = {rank: Heartbeat(store, rank, 2, failures) for rank in (0, 1)}
    beats[1].stop()
    assert not failures.event.wait(1.5)
    beats[0].stop()
