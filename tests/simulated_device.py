"""A simulated accelerator, the device "sim": values in the CPU's memory, an accelerator's rules.

Its tensors are plain tensors on PyTorch's PrivateUse1 key, made by relabelling the memory of the
CPU's tensors (through DLPack). Every operator runs on the CPU. As on an accelerator:

- an operator on tensors of the device and of the CPU raises if the CPU's has a dimension or more;
- float64 is stored, but not computed with (Apple's devices have none);
- what makes the host wait for the device is counted, with the line of detrex that caused it;
- a copy into pinned memory without blocking has its values once an event behind it is waited for.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.utils import backend_registration

from detrex.utils.device import accelerators, pins_memory
from tests.simulated_operators import COPIES, COUNTERS, PINNED, finish, register, wait


def why_unavailable() -> str | None:
    """Why this PyTorch cannot simulate a device; None if it can."""
    hook = "_setup_privateuseone_for_python_backend"
    if not hasattr(backend_registration, hook):
        return f"PyTorch {torch.__version__} lacks {hook}"
    present = [kind for kind in accelerators() if kind != "sim"]
    return f"a process has one accelerator, and here is {present[0]}" if present else None


@contextmanager
def simulated_device() -> Iterator[None]:
    """Inside, this machine has the device "sim"."""
    add_device()
    torch.sim.present = True
    try:
        yield
    finally:
        torch.sim.present = False


@functools.cache
def add_device() -> None:
    """Add the device to this process for good; it is there where :func:`simulated_device` says."""
    register(SimulatedModule())


@contextmanager
def count_waits() -> Iterator[Counter]:
    """Count what makes the host wait: (kind, "detrex/file.py:line") -> times."""
    COUNTERS.append(Counter())
    try:
        yield COUNTERS[-1]
    finally:
        COUNTERS.pop()


@contextmanager
def pinned_memory() -> Iterator[None]:
    """Inside, memory can be pinned, so that copies run beside host and device.

    PyTorch asks the device for such memory in C++; here functions of Python take its place.
    """
    names = "empty empty_like tensor".split()
    before = {name: getattr(torch, name) for name in names}
    methods = {name: getattr(Tensor, name) for name in ("pin_memory", "is_pinned")}
    for name, function in before.items():
        setattr(torch, name, _pinning(function))
    pins_memory.cache_clear()
    Tensor.pin_memory = lambda self, device=None: _pin(self.clone())
    Tensor.is_pinned = lambda self, device=None: self.untyped_storage().data_ptr() in PINNED
    try:
        yield
    finally:
        for owner, functions in ((torch, before), (Tensor, methods)):
            for name, function in functions.items():
                setattr(owner, name, function)
        PINNED.clear()
        pins_memory.cache_clear()


def _pinning(create: Callable) -> Callable:
    @functools.wraps(create)
    def created(*args, pin_memory=False, **kwargs):
        tensor = create(*args, **kwargs)
        return _pin(tensor) if pin_memory else tensor

    return created


def _pin(tensor: Tensor) -> Tensor:
    PINNED[tensor.untyped_storage().data_ptr()] = tensor
    return tensor


class Event:
    """A place in the device's work."""

    def __init__(self) -> None:
        self._copies = []

    def record(self) -> None:
        self._copies = [*COPIES]

    def query(self) -> bool:
        return not any(copy in COPIES for copy in self._copies)

    def synchronize(self) -> None:
        wait("event")
        finish(self._copies)


class SimulatedModule:
    """What PyTorch asks of ``torch.sim``. Its random numbers are the CPU's."""

    Event = Event
    present = False

    def is_available(self) -> bool:
        return self.present

    is_initialized = is_available

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        return int(self.present)

    def current_device(self) -> int:
        return 0

    def set_device(self, device: object) -> None:
        pass

    def device(self, device: object) -> nullcontext:
        return nullcontext()

    def manual_seed(self, seed: int) -> None:
        pass

    manual_seed_all = manual_seed

    def get_rng_state(self, device: object = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: object = None) -> None:
        torch.set_rng_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def synchronize(self, device: object = None) -> None:
        wait("synchronize")
        finish(COPIES)
