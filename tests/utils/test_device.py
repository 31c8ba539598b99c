"""Which devices a run may ask for; without one but the CPU."""

from __future__ import annotations

import pytest
import torch

from detrex.utils import device
from detrex.utils.device import (
    HostCopy,
    autocast_types,
    check_amp_type,
    devices,
    group_backend,
    pins_memory,
    resolve_device,
    send,
)
from detrex.utils.errors import InputError


@pytest.fixture
def machine(monkeypatch):
    """Says what accelerators the machine has: their numbers by type."""

    def has(**counts):
        monkeypatch.setattr(device, "accelerators", lambda: list(counts))
        monkeypatch.setattr(device, "device_count", lambda kind: counts.get(kind, 0))

    return has


def test_auto_is_the_first_accelerator_else_the_cpu(machine) -> None:
    machine()
    assert (resolve_device("auto"), devices()) == ("cpu", ["cpu"])
    machine(mps=1)
    assert (resolve_device("auto"), devices()) == ("mps", ["mps", "cpu"])
    machine(cuda=2, xpu=1)
    assert resolve_device("auto") == "cuda"
    assert devices() == ["cuda:0", "cuda:1", "xpu", "cpu"]


@pytest.mark.parametrize(
    ("name", "processes", "resolved"),
    [("cuda", 2, "cuda"), ("cuda:1", 1, "cuda:1"), ("cpu", 64, "cpu"), ("cpu:0", 1, "cpu")],
)
def test_a_device_that_is_here(machine, name, processes, resolved) -> None:
    machine(cuda=2)
    assert resolve_device(name, processes=processes) == resolved


@pytest.mark.parametrize(
    ("name", "processes", "message"),
    [
        ("gpu", 1, "train.device=gpu: give one of auto, cuda:0, cuda:1, cpu"),
        ("mps", 1, "train.device=mps: this machine has no such device: give one of auto, cuda:0"),
        ("meta", 1, "train.device=meta: this machine has no such device: give one of auto"),
        ("cuda:2", 1, "train.device=cuda:2: give cuda, or for one process one of auto, cuda:0"),
        ("cuda:1", 2, "train.device=cuda:1: give cuda, or for one process one of auto"),
        ("cuda", 3, "--num-gpus 3, but this machine has 2 GPUs"),
    ],
)
def test_a_device_that_is_not_here_is_one_line(machine, name, processes, message) -> None:
    machine(cuda=2)
    with pytest.raises(InputError) as error:
        resolve_device(name, processes=processes)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_what_follows_the_device() -> None:
    assert [group_backend(kind) for kind in ("cuda", "xpu", "mps", "cpu", "npu")] == [
        *("nccl", "xccl", "gloo", "gloo", "gloo")
    ]
    assert pins_memory("cuda") and pins_memory("xpu")
    assert not pins_memory("mps") and not pins_memory("cpu")
    assert "bfloat16" in autocast_types("cpu")


def test_a_type_that_autocast_lacks_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(device, "autocast_types", lambda kind: ["bfloat16"])
    check_amp_type("cpu", "bfloat16")
    with pytest.raises(InputError, match="train.amp.dtype=float16: give one of bfloat16$"):
        check_amp_type("cpu", "float16")


def test_on_the_cpu_nothing_is_copied() -> None:
    x = torch.ones(3)
    assert HostCopy(x).wait().data_ptr() == x.data_ptr()
    assert send(x, torch.device("cpu")) is x
