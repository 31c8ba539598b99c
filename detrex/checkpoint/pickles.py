"""Reading pickles as data, without running what they name.

A pickle is a program that calls what it names. Here the names that a checkpoint may use stand for
records, which only store their arguments; once the program has ended, :func:`plain` turns them into
arrays and plain values. A file never reaches the constructors of numpy or omegaconf.
"""

from __future__ import annotations

import mmap
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from torch import Tensor

MORE_THAN_DATA = "holds more than data (--trust-checkpoint of train_net.py runs its code)"
_DAMAGED = "it is damaged, or no checkpoint"
DEPTH = 100  # levels of nested values: hashing 100,000 nested tuples crashes the interpreter
MOST = 1_000_000  # values in a nested tuple, repeated ones counted again: hashing visits them all
_GROWING = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
_AXES = 32
_DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}


class Record:
    """A call in a pickle that is not run: its arguments and the state set afterwards."""

    __slots__ = ("args", "state")

    def __new__(cls, *args: object) -> Record:
        record = object.__new__(cls)
        record.args, record.state = args, None
        return record

    def __setstate__(self, state: object) -> None:
        self.state = state

    def value(self, of: Callable[[object], object]) -> object:
        """Return the value that the call would make; ``of`` returns that of an argument.

        Raises an exception of any type if there is none.
        """
        raise pickle.UnpicklingError(f"it holds a {type(self).__name__}")


class DType(Record):
    """``numpy.dtype``: a numeric type of fixed size; its state says the byte order."""

    def value(self, of: Callable[[object], object]) -> np.dtype:
        code = _text(of(self.args[0]))
        order, *structure = self.state[1:5] if self.state else ("|", None, None, None)
        orders = "|" if code[1:] == "1" else "<>"
        if code not in _DTYPES or _text(order) not in tuple(orders) or any(structure):
            raise pickle.UnpicklingError(f"it holds an array of {code!r}: no plain numbers")
        return np.dtype(code).newbyteorder(_text(order))


class Array(Record):
    """``_reconstruct``: its state is (version, shape, dtype, whether column-major, bytes)."""

    def value(self, of: Callable[[object], object]) -> np.ndarray:
        _, shape, dtype, by_columns, raw = self.state
        return _array(of(raw), of(dtype), of(shape), "F" if by_columns else "C")


class Buffer(Record):
    """``_frombuffer``: an array in protocol 5."""

    def value(self, of: Callable[[object], object]) -> np.ndarray:
        raw, dtype, shape, order = self.args
        return _array(of(raw), of(dtype), of(shape), order)


class Scalar(Record):
    """``scalar``: one number of numpy's."""

    def value(self, of: Callable[[object], object]) -> np.generic:
        dtype, raw = self.args
        return _array(of(raw), of(dtype), (), "C")[()]


class Encoded(Record):
    """``_codecs.encode``, or ``bytes`` without an argument: bytes in old protocols."""

    def value(self, of: Callable[[object], object]) -> bytes:
        text, encoding = self.args or ("", "latin1")
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"it holds bytes as {encoding!r}")
        return text.encode("latin1")


class Content(Record):
    """omegaconf's containers and values, which upstream's optimizer states hold."""

    def value(self, of: Callable[[object], object]) -> object:
        return of(self.state["_content" if "_content" in self.state else "_val"])


class Attributes(Record):
    """``argparse.Namespace``, which DETR and its descendants save, and the like."""

    def value(self, of: Callable[[object], object]) -> object:
        return of(self.state or {})


class Name(Record):
    """A type that is an argument of a call, never a value."""


RECORDS: dict[str, type[Record]] = {
    **{
        f"{package}.{name}": record
        for package in ("numpy.core", "numpy._core")  # before and since numpy 2
        for name, record in (
            ("multiarray._reconstruct", Array),
            ("multiarray.scalar", Scalar),
            ("numeric._frombuffer", Buffer),
        )
    },
    "numpy.ndarray": Name,
    "numpy.dtype": DType,
    "_codecs.encode": Encoded,
    "builtins.bytes": Encoded,
    "omegaconf.listconfig.ListConfig": Content,
    "omegaconf.dictconfig.DictConfig": Content,
    "omegaconf.nodes.AnyNode": Content,
    "omegaconf.base.ContainerMetadata": Name,
    "omegaconf.base.Metadata": Name,
    "typing.Any": Name,
    "argparse.Namespace": Attributes,
    "collections.defaultdict": Attributes,
    "builtins.dict": Name,
    "builtins.list": Name,
    "builtins.int": Name,
}


def read_pickle(path: Path) -> object:
    """Read a pickle that torch did not write.

    Raises:
        Exception: of many types; it is damaged or names more than data.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        check_nesting(stream)
        stream.seek(0)
        return plain(_Unpickler(stream, encoding="latin1").load())


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        full_name = f"{module.replace('__builtin__', 'builtins')}.{name}"  # of Python 2
        if full_name == "collections.OrderedDict":
            return OrderedDict
        if full_name not in RECORDS:
            raise pickle.UnpicklingError(f"it refers to {full_name}: {MORE_THAN_DATA}")
        return RECORDS[full_name]


def check_nesting(stream: BinaryIO | mmap.mmap) -> None:
    """Check the next pickle of a stream without running it.

    Raises:
        UnpicklingError: it is no pickle; it nests values more than ``DEPTH`` deep, or ``MOST`` in a
            tuple; or it stores values under indices so large that they would fill the memory.
    """
    stack, marks, memo = [], [], {}  # (depth, size) of each value
    for count, (opcode, argument) in enumerate(_operations(stream)):
        name = opcode.name
        if name == "MARK":
            marks.append(len(stack))
        elif name == "POP" and marks and marks[-1] == len(stack):
            marks.pop()
        elif name.endswith("GET"):
            stack.append(memo.get(argument, (0, 1)))
        elif name == "DUP":
            stack.append(stack[-1])
        elif name.endswith("PUT") or name == "MEMOIZE":
            index = len(memo) if name == "MEMOIZE" else argument
            if index > count:
                raise pickle.UnpicklingError(_DAMAGED)
            memo[index] = stack[-1]
        else:
            _step(opcode, stack, marks)
            depth, size = stack[-1] if stack else (0, 1)
            if depth > DEPTH:
                raise pickle.UnpicklingError(f"its values are more than {DEPTH} deep")
            if size > MOST:
                raise pickle.UnpicklingError(f"a tuple in it has more than {MOST:,} values")


def _operations(stream: BinaryIO | mmap.mmap) -> Iterator[tuple[pickletools.OpcodeInfo, object]]:
    operations = pickletools.genops(stream)
    while True:
        try:
            opcode, argument, _ = next(operations)
        except StopIteration:
            return
        except Exception as error:
            raise pickle.UnpicklingError(_DAMAGED) from error
        yield opcode, argument


def _step(opcode: pickletools.OpcodeInfo, stack: list[tuple[int, int]], marks: list[int]) -> None:
    """Update the (depth, size) of the values on the stack as the opcode changes the values."""
    before = opcode.stack_before
    taken = len(before)
    if pickletools.markobject in before:
        taken = len(stack) - marks.pop() + before.index(pickletools.markobject)
    values = stack[len(stack) - taken :]
    del stack[len(stack) - taken :]
    depths = [depth for depth, _ in values]
    if opcode.name in _GROWING:
        stack.append((max(depths[0], 1 + max(depths[1:], default=-1)), 1))
        return
    hashed = opcode.name.startswith("TUPLE") or opcode.name == "FROZENSET"
    size = 1 + sum(size for _, size in values) if hashed else 1
    stack += [(1 + max(depths, default=-1), size)] * len(opcode.stack_after)


def plain(content: object) -> object:
    """Return the content with its records turned into values, in plain dicts and lists.

    Raises:
        Exception: of many types; a record has no value.
    """
    values: dict[int, object] = {}  # by id: shared values stay shared, and are made once
    unfinished = set()

    def of(value: object) -> object:
        if id(value) in values:
            return values[id(value)]
        if isinstance(value, dict):
            made = values[id(value)] = {}
            made.update((of(key), of(item)) for key, item in dict.items(value))
        elif type(value) is list:
            made = values[id(value)] = []
            made.extend(map(of, value))
        elif type(value) is tuple:
            made = values[id(value)] = tuple(map(of, value))
        elif isinstance(value, Record):
            if id(value) in unfinished:
                raise pickle.UnpicklingError("it holds a value that is part of itself")
            unfinished.add(id(value))
            made = values[id(value)] = value.value(of)
        elif isinstance(value, Tensor):  # a file may hide a tensor's methods behind attributes
            made = values[id(value)] = Tensor.detach(value)
        else:
            made = value
        return made

    return of(content)


def _array(raw: object, dtype: object, shape: object, order: str) -> np.ndarray:
    """Return an array of exactly these bytes, in the machine's byte order."""
    if isinstance(raw, str):  # bytes of Python 2
        raw = raw.encode("latin1")
    sizes = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not (sizes and len(shape) <= _AXES and isinstance(raw, bytes | bytearray)):
        raise pickle.UnpicklingError("it holds an array that is none")
    if prod(shape) * dtype.itemsize != len(raw):
        raise pickle.UnpicklingError(
            f"it holds {len(raw)} bytes for an array of shape {list(shape)}"
        )
    array = np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")
    return array.astype(dtype.newbyteorder("="))


def _text(value: object) -> object:
    return value.decode("latin1") if isinstance(value, bytes) else value
