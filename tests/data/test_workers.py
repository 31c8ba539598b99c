"""Loading processes that run out of shared memory, die, hang, or give what cannot be sent."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch.utils.data import DataLoader, Dataset

from detrex.data import workers
from detrex.data.workers import guard_workers
from detrex.train.failures import describe_failure
from detrex.utils.errors import InputError


class Items(Dataset):
    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.make(index)


def sample(index):
    instances = Instances((4, 4), gt_boxes=Boxes(torch.full((2, 4), float(index))))
    return {"image": torch.full((3, 4, 4), index), "instances": instances, "name": str(index)}


def load(make, num_workers=2):
    return list(guard_workers(DataLoader(Items(make), None, num_workers=num_workers)))


def assert_complete(batches):
    assert [batch["name"] for batch in batches] == list("012345")
    for index, batch in enumerate(batches):
        assert torch.equal(batch["image"], torch.full((3, 4, 4), index))
        assert torch.equal(batch["instances"].gt_boxes.tensor, torch.full((2, 4), float(index)))


def test_every_tensor_comes_through_shared_memory():
    batches = load(sample)
    assert_complete(batches)
    assert all(b["image"].is_shared() for b in batches)
    assert all(b["instances"].gt_boxes.tensor.is_shared() for b in batches)


@pytest.mark.parametrize(
    "error, reason",
    [
        (RuntimeError("unable to allocate shared memory(shm) for file </t>: No space"), "No space"),
        (OSError(24, "Too many open files"), "[Errno 24] Too many open files"),
    ],
)
def test_without_shared_memory_batches_come_through_pipes(monkeypatch, caplog, error, reason):
    def fail(batch):
        raise error

    monkeypatch.setattr(workers, "ForkingPickler", SimpleNamespace(dumps=fail))
    workers._warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert_complete(load(sample))
    (warning,) = caplog.messages
    assert f"shared memory ({reason})" in warning and "--shm-size" in warning


def refuse(index):
    return threading.Lock()


def die(index):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(index):
    time.sleep(600)


def test_what_cannot_be_sent_is_an_error():
    with pytest.raises(TypeError, match="cannot pickle"):
        load(refuse)


@pytest.mark.parametrize(
    "make, message",
    [
        (die, "was killed"),
        (hang, "no batch from the loading processes for 0 minutes: a disk does not answer"),
    ],
)
def test_processes_that_give_nothing_are_one_line(monkeypatch, make, message):
    monkeypatch.setattr(workers, "PATIENCE", 60 if make is die else 2)
    with pytest.raises(RuntimeError) as end:
        load(make, num_workers=1)
    status, text = describe_failure(end.value)
    assert status == 1 and text.startswith("error: ") and message in text
    assert "\n" not in text


@pytest.mark.parametrize("error", [RuntimeError("x"), ConnectionResetError(104, "reset")])
def test_end_of_a_loading_process_is_the_cause_whenever_torch_says_it(monkeypatch, error):
    def announce(*_):
        raise RuntimeError("DataLoader worker (pid 17) is killed by signal: Killed. ")

    monkeypatch.setattr("traceback.format_exception", announce)
    monkeypatch.setattr("time.sleep", announce)
    text = describe_failure(error)[1]
    assert text.startswith("error: loading process 17 was killed by SIGKILL, perhaps by the system")


def test_no_semaphores_is_bad_input(monkeypatch):
    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(multiprocessing, "Lock", full)
    with pytest.raises(InputError, match="/dev/shm .No space.* dataloader.train.num_workers=0"):
        load(sample)
    assert_complete(load(sample, num_workers=0))
