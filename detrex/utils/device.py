"""Devices: which are here, what a run may ask for, and in what they differ.

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
    """How many devices of a type are here; 0 too for a type that PyTorch does not know."""
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = device_module(kind)
    return module.device_count() if module and module.is_available() else 0


def device_module(kind: str) -> ModuleType | None:
    """What PyTorch has under the name of an accelerator, e.g. ``torch.cuda``."""
    return None if kind == "cpu" else getattr(torch, kind, None)


def devices() -> list[str]:
    """The devices of this machine, as ``train.device`` names them: "cuda:0", "cuda:1", "cpu"."""
    names = []
    for kind in accelerators():
        count = device_count(kind)
        names += [kind] if count == 1 else [f"{kind}:{i}" for i in range(count)]
    return [*names, "cpu"]


def check_device_name(name: str, key: str = "train.device") -> None:
    """Refuse what names no device on any machine.

    Raises:
        InputError: lists what is here.
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
        InputError: no such device here, or fewer than processes; lists what is here.
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
    """The type of the device that a name stands for, here or not; of "auto" what is here."""
    return torch.device(resolve_device(name) if name == "auto" else name).type


def set_device(kind: str, index: int) -> None:
    """Make that one of several devices of a type this process's; of the only one it is already."""
    module = device_module(kind)
    if hasattr(module, "set_device"):
        module.set_device(index)


def group_backend(kind: str) -> str:
    """What connects the processes of a run: nccl on cuda, xccl on xpu, gloo where torch has no
    other."""
    return dist.Backend.default_device_backend_map.get(kind, "gloo")


@functools.cache
def autocast_types(kind: str) -> list[str]:
    """Names of the types in which autocast computes on a device: bfloat16, float16, or fewer."""
    return [name for name, dtype in AMP_TYPES.items() if _autocasts(kind, dtype)]


def check_amp_type(kind: str, name: str) -> None:
    """Refuse a type that autocast lacks on a type of device: it would compute in float32.

    Raises:
        InputError: names those that it has.
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
    """Whether copies between host and device can run beside both, from and to pinned memory."""
    if kind in ("cuda", "xpu"):
        return True
    if kind in ("cpu", "mps"):  # a Mac's two share one memory
        return False
    try:
        return torch.empty(1, pin_memory=True).is_pinned()
    except RuntimeError:
        return False


def foreach(device: torch.device) -> bool | None:
    """PyTorch's option of that name: one operator for many tensors, where the device has such.

    Left to itself (None), PyTorch takes it on accelerators that have it, and not on the CPU.
    """
    return True if device.type == "cpu" else None


def seed_device(kind: str, value: int) -> None:
    """Seed what the CPU and this type of device draw."""
    # Not torch.manual_seed: in a process without CUDA it would note the call for later, each time.
    torch.default_generator.manual_seed(value)
    if module := device_module(kind):
        module.manual_seed(value)


def peak_memory() -> float | None:
    """Most MiB that this process's tensors have taken on the accelerator; None if nobody counts."""
    for kind in accelerators():
        if measure := getattr(device_module(kind), "max_memory_allocated", None):
            return measure() / 2**20
    return None


def synchronize(kind: str) -> None:
    """Wait until a type of device has done all its work."""
    if module := device_module(kind):
        module.synchronize()


class HostCopy:
    """A tensor on its way to the host; where it can, the device works on meanwhile."""

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
    """A tensor of the host on the device, without waiting for what the device does.

    ``pin``: from pinned memory, where that exists: the host does not wait for the copy either.
    """
    if device.type == "mps":  # reads the host's memory later, when it may have other values
        return tensor.to(device)
    if pin and pins_memory(device.type):
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
