"""Compiling a C file at first use, into a cache folder that processes share."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from .files import cache_folder

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
TIMEOUT = 60  # seconds; each file takes less than one


class CompileError(Exception):
    """The library cannot be compiled or loaded here; the message says why in one line."""


@functools.cache
def library_or_reason(source: Path, *defines: str) -> ctypes.CDLL | str:
    """Return the library, or why there is none; a failed build is not repeated in this process."""
    try:
        return load_library(source, *defines)
    except CompileError as error:
        return str(error)


def load_library(source: Path, *defines: str) -> ctypes.CDLL:
    """Return the shared library of a C file, compiled with ``-D<define>``s or from the cache.

    Raises:
        CompileError: there is no compiler, it fails, or the cache cannot be written.
    """
    try:
        flags = [*FLAGS, *(f"-D{define}" for define in defines), *_vector_flags()]
        key = "\0".join([source.read_text(encoding="utf-8"), platform.machine(), *flags])
        name = f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
        library = cache_folder() / name
        if not library.exists():
            _compile(source, flags, library)
        return ctypes.CDLL(str(library))
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        raise CompileError(f"{source.name} cannot be built or loaded: {error}") from None


def _vector_flags() -> list[str]:
    """Return the flags of AVX2, if this CPU has it; not ``-march=native``, as machines may share
    the cache."""
    cpu = Path("/proc/cpuinfo")
    words = set(cpu.read_text(encoding="utf-8").split()) if cpu.exists() else set()
    return ["-mavx2", "-mfma"] if {"avx2", "fma"} <= words else []


def _compile(source: Path, flags: list[str], library: Path) -> None:
    """Compile into ``library``; concurrent processes write separate files and rename them."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise CompileError(f"no C compiler found (looked for {', '.join(COMPILERS)})")
    library.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=library.parent, prefix=f".{library.name}.")
    os.close(handle)
    try:
        message = ""
        for threads in (["-fopenmp"], []):  # Apple's clang has no OpenMP
            command = [compiler, *flags, *threads, str(source), "-o", temporary, "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
            if done.returncode == 0:
                os.replace(temporary, library)
                return
            message = message or (done.stderr.strip() or "no message").splitlines()[0]
        raise CompileError(f"{Path(compiler).name} failed: {message}")
    except subprocess.TimeoutExpired:
        raise CompileError(f"{Path(compiler).name} took more than {TIMEOUT} s") from None
    finally:
        Path(temporary).unlink(missing_ok=True)


def call_c(function: Callable, *arguments: Tensor | list | float | None) -> None:
    """Call a C function: tensors and None become pointers, integers int64, other numbers float, and
    a list an array of the type of its entries."""
    function(*map(_as_c, arguments))


def _as_c(argument: Tensor | list | float | None) -> object:
    if isinstance(argument, list):
        fields = [_as_c(field) for field in argument]
        return (type(fields[0]) * len(fields))(*fields)
    if isinstance(argument, int | float):
        return (ctypes.c_int64 if isinstance(argument, int) else ctypes.c_float)(argument)
    return ctypes.c_void_p(None if argument is None else argument.data_ptr())
