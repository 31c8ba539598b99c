"""What the simulated accelerator does with operators: the CPU runs them on the same memory."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils import backend_registration

ROOT = Path(__file__).resolve().parents[1]
# Operators whose result, or its size, the host must know before it can go on.
WAITING = {
    "_local_scalar_dense": "item",
    "_unique2": "unique",
    "bincount": "bincount",
    "equal": "equal",
    "masked_select": "mask",
    "nms": "nms",
    "nonzero": "nonzero",
    "unique_consecutive": "unique",
    "unique_dim": "unique",
}
# What autocast computes in its type, and what in float32 (the main ones of CUDA's lists).
LOWER_PRECISION = """linear conv2d matmul mm bmm addmm baddbmm addbmm conv_transpose2d.input
    scaled_dot_product_attention""".split()
FULL_PRECISION = """softmax.int log_softmax.int layer_norm group_norm exp log rsqrt
    pow.Tensor_Scalar sum sum.dim_IntList cumsum prod binary_cross_entropy_with_logits l1_loss
    smooth_l1_loss nll_loss cdist""".split()
PINNED: dict[int, Tensor] = {}  # by address of their storage
COPIES: list[Callable[[], None]] = []  # to the host, not done yet
COUNTERS: list[Counter] = []  # of waits
_KEPT = []  # registrations live as long as their objects


def register(module: object) -> None:
    """Add the device "sim", with what PyTorch asks of ``torch.sim``, to this process for good."""
    backend_registration._setup_privateuseone_for_python_backend("sim", module)
    library = torch.library.Library("_", "IMPL")
    library.fallback(_run, "PrivateUse1")
    library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    aten = torch.library.Library("aten", "IMPL")
    for name in [*LOWER_PRECISION, *FULL_PRECISION]:
        kernel = functools.partial(_autocast, _operator(name), name in LOWER_PRECISION)
        aten.impl(name, kernel, "AutocastPrivateUse1")
    # Else PyTorch would split them before they come here, and its errors would not name them.
    names = torch._C._dispatch_get_registrations_for_dispatch_key("CPU")
    names = [name.removeprefix("aten::") for name in names if name.startswith("aten::")]
    for name in [*names, *_INSTEAD]:
        aten.impl(name, functools.partial(_run, _operator(name)), "PrivateUse1")
    _KEPT.extend([library, aten])
    # Saved tensors are loaded to the CPU: memory of the device cannot be made in C++.
    torch.serialization.register_package(0, _saved_as, lambda storage, place: None)
    clone = torch.UntypedStorage.clone
    torch.UntypedStorage.clone = lambda self: (
        _as_bytes(self).clone().untyped_storage() if self.device.type == "sim" else clone(self)
    )


def _saved_as(storage: torch.UntypedStorage) -> str | None:
    return "cpu" if storage.device.type == "sim" else None


def _operator(name: str) -> torch._ops.OpOverload:
    name, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, name), overload or "default")


def _as_bytes(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device="sim").set_(storage)


def _autocast(operator: torch._ops.OpOverload, lower: bool, *args, **kwargs):
    dtype = torch.get_autocast_dtype("sim") if lower else torch.float32

    def cast(value: Tensor) -> Tensor:
        eligible = _is_sim(value) and value.is_floating_point() and value.dtype != torch.float64
        return value.to(dtype) if eligible else value

    args, kwargs = pytree.tree_map_only(Tensor, cast, (args, kwargs))
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
    with torch._C._ExcludeDispatchKeyGuard(key):
        return operator(*args, **kwargs)


def finish(copies: list[Callable[[], None]]) -> None:
    for copy in [copy for copy in copies if copy in COPIES]:
        copy()
        COPIES.remove(copy)


def wait(kind: str) -> None:
    """Count a wait, and where detrex caused it."""
    if not COUNTERS:
        return
    frame, line = sys._getframe(1), "elsewhere"
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(ROOT):
            place = file.relative_to(ROOT)
            if place.parts[0] in ("detrex", "projects") and place.name != "device.py":
                line = f"{place}:{frame.f_lineno}"
                break
        frame = frame.f_back
    for counter in COUNTERS:
        counter[kind, line] += 1


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


def _relabelled(tensor: Tensor, kind: int) -> Tensor:
    """The same memory as a tensor of another device, by DLPack's number of its type."""
    capsule = torch._C._to_dlpack(tensor.detach())
    # DLTensor: a pointer to the data, then the type of the device.
    device = _pointer(capsule, b"dltensor") + ctypes.sizeof(ctypes.c_void_p)
    ctypes.c_int32.from_address(device).value = kind
    return torch._C._from_dlpack(capsule)


_on_cpu = functools.partial(_relabelled, kind=1)
_on_sim = functools.partial(_relabelled, kind=12)  # "extension"
_CPU_KERNEL = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)


def _is_sim(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == "sim"


def _run(operator: torch._ops.OpOverload, *args, **kwargs):
    """Any operator of the device: the CPU's, on the same memory."""
    name = operator.overloadpacket.__name__
    if name == "_copy_from":
        return _copy(*args, **kwargs)
    if name == "_fused_sdp_choice":
        return 0  # attention by plain operators
    if operator.is_view or name.startswith("set_"):
        return operator.redispatch(_CPU_KERNEL, *args, **kwargs)
    tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    _check_devices(operator, tensors)
    _count(name, args, kwargs)
    written = _written(operator, args, kwargs)
    out = {k: v for k, v in kwargs.items() if any(v is x for x in written) and not v.numel()}
    host_args, host_kwargs = pytree.tree_map(_host, (args, kwargs))
    host_kwargs |= {k: torch.empty_like(host_kwargs[k]) for k in out}  # its memory can be resized
    result = _called(operator, host_args)(*host_args, **host_kwargs)
    for key, tensor in out.items():
        _take_memory(tensor, host_kwargs[key])
    # In place, and into what is given, an operator returns its argument.
    if written and len(operator._schema.returns) == len(written):
        return written[0] if len(written) == 1 else tuple(written)
    return pytree.tree_map_only(Tensor, _on_sim, result)


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, *options):
    channels = weight.shape[1] * options[5] if options[3] else weight.shape[0]  # if transposed
    return torch.ops.aten.convolution_backward(grad, x, weight, [channels], *options)


# What PyTorch asks of devices that it does not know, in place of the CPU's operators.
_INSTEAD = {
    "convolution_overrideable": torch.ops.aten.convolution,
    "convolution_backward_overrideable": _convolution_backward,
}


def _called(operator: torch._ops.OpOverload, args: tuple) -> Callable:
    """What the CPU is to do: for a number in place of a tensor, PyTorch chooses the overload."""
    expected = [a.type.kind() for a in operator._schema.arguments]
    pairs = zip(args, expected, strict=False)
    numbers = any(isinstance(x, int | float) and kind == "TensorType" for x, kind in pairs)
    packet = operator.overloadpacket
    return _INSTEAD.get(packet.__name__, packet if numbers else operator)


def _host(value: object) -> object:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return _on_cpu(value) if _is_sim(value) else value


def _written(operator: torch._ops.OpOverload, args: tuple, kwargs: dict) -> list:
    """The arguments that an operator changes."""
    arguments = operator._schema.arguments
    names = [a.name for a in arguments if a.alias_info and a.alias_info.is_write]
    values = {a.name: x for a, x in zip(arguments, args, strict=False)} | kwargs
    return [values.get(name) for name in names]


def _take_memory(tensor: Tensor, result: Tensor) -> None:
    """Make an empty tensor of the device what the CPU has computed."""
    source = _on_sim(result)
    place = source.untyped_storage(), 0, source.shape, source.stride()
    torch.ops.aten.set_.source_Storage_storage_offset.redispatch(_CPU_KERNEL, tensor, *place)


def _check_devices(operator: torch._ops.OpOverload, tensors: list[Tensor]) -> None:
    """An accelerator takes the CPU's numbers and index tensors, and nothing else of it; not all
    compute in float64 (PyTorch's loss scaler does, with a number, where it can)."""
    on_cpu = [tuple(x.shape) for x in tensors if not _is_sim(x) and x.dim()]
    indexing = "index" in operator.overloadpacket.__name__
    indices = [x for x in tensors if not _is_sim(x) and not x.is_floating_point()]
    if on_cpu and not (indexing and len(indices) >= len(on_cpu)):
        shapes = ", ".join(f"{x.device.type} {tuple(x.shape)}" for x in tensors)
        raise RuntimeError(f"{operator}: tensors of different devices: {shapes}")
    if on_cpu:
        wait("index from the host")
    if any(_is_sim(x) and x.dtype == torch.float64 and x.dim() for x in tensors):
        raise RuntimeError(f"{operator}: this device has no float64")


def _count(name: str, args: tuple, kwargs: dict) -> None:
    if name in WAITING:
        wait(WAITING[name])
        finish(COPIES)
    elif name == "repeat_interleave" and kwargs.get("output_size") is None:
        wait("repeat_interleave")
    elif name in ("index", "index_put", "_index_put_impl_", "_unsafe_index"):
        masks = [x for x in args[1] if x is not None and x.dtype in (torch.bool, torch.uint8)]
        # A mask that takes one number is filled: of the host's that is known.
        number = len(args) > 2 and args[2].numel() == 1 and not _is_sim(args[2])
        if masks and not number:
            wait("mask")


def _copy(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """Between host and device, or on the device."""
    values, memory = _host(source), _host(target)
    if not _is_sim(source):
        if not non_blocking:
            wait("to device")
        memory.copy_(values)
    elif _is_sim(target):
        memory.copy_(values)
    elif non_blocking and target.untyped_storage().data_ptr() in PINNED:
        values = values.clone()
        memory.fill_(True if memory.dtype == torch.bool else -77)  # until then it holds anything
        COPIES.append(lambda: memory.copy_(values))
    else:
        wait("to host")
        finish(COPIES)
        memory.copy_(values)
    return target
