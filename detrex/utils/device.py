"""Devices: those of this machine, the one that a run takes, and what differs between them.

An accelerator is any device of PyTorch's that is not the CPU: ``cuda`` (NVIDIA, AMD), ``xpu``
(Intel), ``mps`` (Apple), or one that a package adds (``npu``).
"""

from __future__ import annotations

import functools
import warnings
from types import ModuleType

import torch
import torch.distributed as dist
from torch import Tensor

from detrex.utils.errors import InputError

AMP_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def accelerators() -> list[str]:
    """Types of the accelerators that work here, the one that "auto" takes first."""
    names = ["cuda", "xpu", "mps"]
    if hasattr(torch, "accelerator") and (current := torch.accelerator.current_accelerator()):
        names.append(current.type)  # also one that a package has added
    return [name for name in dict.fromkeys(names) if device_count(name)]


def device_count(kind: str) -> int:
    """Number of devices of a type in this machine; 0 for a type that PyTorch does not know."""
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = device_module(kind)
    return module.device_count() if module and module.is_available() else 0


def device_module(kind: str) -> ModuleType | None:
    """PyTorch's module for an accelerator, e.g. ``torch.cuda``; None if it has none."""
    return None if kind == "cpu" else getattr(torch, kind, None)


def devices() -> list[str]:
    """The devices of this machine, as ``train.device`` names them: "cuda:0", "cuda:1", "cpu"."""
    names = []
    for kind in accelerators():
        count = device_count(kind)
        names += [kind] if count == 1 else [f"{kind}:{i}" for i in range(count)]
    return [*names, "cpu"]


def check_device_name(name: str, key: str = "train.device") -> None:
    """Check that a name can be that of a device on some machine.

    Raises:
        InputError: it cannot; lists the devices of this machine.
    """
    try:
        torch.device("cpu" if name == "auto" else name)
    except RuntimeError as error:
        raise InputError(f"{key}={name}: give one of {_choice()}") from error


def resolve_device(name: str, key: str = "train.device", processes: int = 1) -> str:
    """The device that a name stands for: "auto" is the first accelerator, else the CPU.

    Args:
        name: "auto", or a type of device with or without a number.
        key: whose value the name is, for the message.
        processes: on this machine. Several take a device each, and the name has no number.

    Raises:
        InputError: no such device here, or fewer than processes; lists the devices.
    """
    check_device_name(name, key)
    if name == "auto":
        name = (accelerators() or ["cpu"])[0]
    device = torch.device(name)
    if device.type == "cpu":
        return "cpu"
    count = device_count(device.type) if device.type in accelerators() else 0
    if not count:
        raise InputError(f"{key}={name}: this machine has no such device: give one of {_choice()}")
    if processes > count:
        raise InputError(f"--num-gpus {processes}, but this machine has {count} GPUs")
    if (device.index or 0) >= count or (device.index and processes > 1):
        raise InputError(f"{key}={name}: give {device.type}, or for one process one of {_choice()}")
    return name


def _choice() -> str:
    return ", ".join(["auto", *devices()])


def device_kind(name: str) -> str:
    """The type of the device that a name stands for; "auto" stands for one of this machine."""
    return torch.device(resolve_device(name) if name == "auto" else name).type


def set_device(kind: str, index: int) -> None:
    """Let this process use one of several devices of a type; without a choice, do nothing."""
    module = device_module(kind)
    if hasattr(module, "set_device"):
        module.set_device(index)


def group_backend(kind: str) -> str:
    """The backend of ``torch.distributed``: nccl on cuda, xccl on xpu, gloo on other devices."""
    return dist.Backend.default_device_backend_map.get(kind, "gloo")


@functools.cache
def autocast_types(kind: str) -> list[str]:
    """Names of the types in which autocast computes on a device: bfloat16, float16, or fewer."""
    return [name for name, dtype in AMP_TYPES.items() if _autocasts(kind, dtype)]


def check_amp_type(kind: str, name: str) -> None:
    """Check that autocast has a type on a type of device; otherwise it would compute in float32.

    Raises:
        InputError: it has not; names those that it has.
    """
    if name not in (known := autocast_types(kind)):
        raise InputError(f"train.amp.dtype={name}: give one of {', '.join(known)}")


def _autocasts(kind: str, dtype: torch.dtype) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # autocast warns and switches itself off
        try:
            with torch.autocast(kind, dtype):
                return torch.is_autocast_enabled(kind)
        except RuntimeError:
            return False


@functools.cache
def pins_memory(kind: str) -> bool:
    """Whether copies between this type of device and pinned host memory run asynchronously."""
    if kind in ("cuda", "xpu"):
        return True
    if kind in ("cpu", "mps"):  # a Mac's two share one memory
        return False
    try:
        return torch.empty(1, pin_memory=True).is_pinned()
    except RuntimeError:
        return False


def foreach(device: torch.device) -> bool | None:
    """PyTorch's option ``foreach`` (one operator for many tensors): on, also on the CPU.

    With None PyTorch itself takes it on accelerators that have such operators.
    """
    return True if device.type == "cpu" else None


def seed_device(kind: str, value: int) -> None:
    """Seed the random numbers of the CPU and of this type of device."""
    # Not torch.manual_seed: in a process without CUDA it would note the call for later, each time.
    torch.default_generator.manual_seed(value)
    if module := device_module(kind):
        module.manual_seed(value)


def peak_memory() -> float | None:
    """Peak MiB of this process's tensors on the accelerator; None if it does not count them."""
    for kind in accelerators():
        if measure := getattr(device_module(kind), "max_memory_allocated", None):
            return measure() / 2**20
    return None


def synchronize(kind: str) -> None:
    """Wait for all work that was given to a type of device."""
    if module := device_module(kind):
        module.synchronize()


class HostCopy:
    """A copy of a tensor to the host; if the device can, it goes on working meanwhile."""

    def __init__(self, tensor: Tensor) -> None:
        tensor, kind = tensor.detach(), tensor.device.type
        self._event = None
        if not pins_memory(kind):
            self._host = tensor.to(torch.device("cpu"))
            return
        self._host = torch.empty_like(tensor, device="cpu", pin_memory=True)
        self._host.copy_(tensor, non_blocking=True)
        self._event = device_module(kind).Event()
        self._event.record()

    def wait(self) -> Tensor:
        """The copy, once it is complete."""
        if self._event is not None:
            self._event.synchronize()
        return self._host


def send(tensor: Tensor, device: torch.device, pin: bool = False) -> Tensor:
    """A copy of a host tensor on the device, without waiting for the device's earlier work.

    ``pin``: copy from pinned memory, where it exists, so that the host need not wait for the copy.
    """
    if device.type == "mps":  # it reads the host's memory later, when the values may have changed
        return tensor.to(device)
    if pin and pins_memory(device.type):
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
