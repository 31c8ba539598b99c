"""The same computation in float64, also where the code asks for float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.overrides import TorchFunctionMode

from detrex.utils import compiler

DRAWS = ("rand", "randn", "rand_like", "randn_like", "randint_like")


class _Wide(TorchFunctionMode):
    """float32 as an argument means float64; random numbers are those of a float32 run, widened."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name == "float":
            return args[0].double()
        kwargs = {key: _wide(value) for key, value in (kwargs or {}).items()}
        args = [_wide(value) for value in args]
        if name in DRAWS and _draws_reals(args, kwargs):
            return function(*args, **{**kwargs, "dtype": torch.float32}).double()
        return function(*args, **kwargs)


def _wide(value: object) -> object:
    return torch.float64 if value is torch.float32 else value


def _draws_reals(args: list, kwargs: dict) -> bool:
    like = args[0].dtype if args and isinstance(args[0], torch.Tensor) else torch.float64
    return (kwargs.get("dtype") or like).is_floating_point


@contextmanager
def float64() -> Iterator[None]:
    """Inside, new tensors are float64 and C files, some of which read float32 memory, are off."""
    torch.set_default_dtype(torch.float64)
    compiler.library_or_reason.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "load_library", _no_library)
        try:
            with _Wide():
                yield
        finally:
            torch.set_default_dtype(torch.float32)
            compiler.library_or_reason.cache_clear()


def _no_library(*arguments: object) -> None:
    raise compiler.CompileError("it reads float32 memory")
