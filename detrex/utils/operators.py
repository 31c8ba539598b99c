"""Counting operators and host synchronisations, with the same result on a CPU as on a GPU.

Many small operators, and every value that the host reads back, keep a GPU waiting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Operators whose result, or whose result's size, the host must know before it goes on.
_WAITING = {
    "_local_scalar_dense",
    "_unique",
    "_unique2",
    "bincount",
    "equal",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
_BOOKKEEPING = {"promote_types", "_record_function_enter_new", "_record_function_exit"}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
_TO_HOST = {Tensor.cpu: "cpu", Tensor.tolist: "tolist"}


class OperatorCounter:
    """Inside ``with``, counts operators and host synchronisations by name.

    Attributes:
        operators: calls of aten and custom operators, views aside; forward, backward, optimizer.
        syncs: calls for which the host would wait for a GPU: ``item``, ``nonzero``, a mask as an
            index, ``unique``, ``equal``, ``tolist``, ``cpu()``, ``to("cpu")``.
    """

    def __init__(self) -> None:
        self.operators: Counter[str] = Counter()
        self.syncs: Counter[str] = Counter()
        self._modes = _Dispatch(self), _Calls(self)

    def __enter__(self) -> OperatorCounter:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    def totals(self) -> dict[str, int]:
        """Return both sums by name."""
        return {"operators": self.operators.total(), "syncs": self.syncs.total()}


class _Dispatch(TorchDispatchMode):
    def __init__(self, counter: OperatorCounter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_dispatch__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result, name = function(*args, **(kwargs or {})), function.overloadpacket.__name__
        if not function.is_view and name not in _BOOKKEEPING:
            self._counter.operators[name] += 1
        if _waits(name, args, kwargs or {}):
            self._counter.syncs[name] += 1
        return result


class _Calls(TorchFunctionMode):
    """Counts copies to the host, which are no operators if the tensors are there already."""

    def __init__(self, counter: OperatorCounter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_function__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if function in _TO_HOST:
            self._counter.syncs[_TO_HOST[function]] += 1
        # A device object may be the model's device; only the literal is surely the host.
        elif function is Tensor.to and "cpu" in [a for a in args[1:] if isinstance(a, str)]:
            self._counter.syncs["to cpu"] += 1
        return function(*args, **(kwargs or {}))


def _waits(name: str, args: tuple, kwargs: dict) -> bool:
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name in _INDEXING:
        return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
    return name in _WAITING
