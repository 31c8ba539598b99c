"""Building the C kernel: the cache folder, races, and machines without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from detrex.layers.ms_deform_attn import native
from detrex.utils import compiler

RUN = """
import logging, torch
logging.basicConfig(level=logging.INFO, format="%(message)s")
from detrex.layers import multi_scale_deformable_attention
value, shapes = torch.ones(1, 6, 1, 4), [(2, 3)]
locations, weights = torch.full((1, 2, 1, 1, 1, 2), 0.5), torch.ones(1, 2, 1, 1, 1)
out = multi_scale_deformable_attention(value, shapes, locations, weights)
assert torch.equal(out, torch.ones(1, 2, 4)), out
"""
needs_compiler = pytest.mark.skipif(
    native.why_unavailable(torch.float32) is not None, reason="no C compiler"
)


def start(cache, **variables: str) -> subprocess.Popen:
    """A fresh process that computes a small attention."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    environment.pop("DETREX_ATTENTION", None)
    command = [sys.executable, "-c", RUN]
    return subprocess.Popen(command, env=environment | variables, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> list[str]:
    """The lines it logged about its path."""
    errors = process.communicate(timeout=100)[1]
    assert process.returncode == 0, errors
    return [line for line in errors.splitlines() if "deformable attention" in line]


@needs_compiler
def test_processes_that_race_share_one_library(tmp_path) -> None:
    racers = [start(tmp_path) for _ in range(2)]
    for racer in racers:
        assert finish(racer) == ["deformable attention on cpu: the C kernel"]
    names = os.listdir(tmp_path / "detrex")
    assert len(names) == 1 and names[0].startswith("kernel-") and names[0].endswith(".so")


def test_without_a_compiler_plain_pytorch_runs(tmp_path) -> None:
    assert finish(start(tmp_path, PATH=str(tmp_path))) == [
        "deformable attention on cpu: plain PyTorch (no C compiler found "
        "(looked for cc, gcc, clang))"
    ]


@needs_compiler
def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "detrex").write_text("a file where the folder should be")
    with pytest.raises(compiler.CompileError, match="cannot be built or loaded.*detrex"):
        compiler.load_library(native.SOURCE, "REAL=float")


def failing_compiler(folder, script: str) -> str:
    (folder / "cc").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "cc").chmod(0o755)
    return str(folder)


def test_a_compiler_that_fails_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", failing_compiler(tmp_path, "echo broken >&2; exit 1"))
    with pytest.raises(compiler.CompileError, match="^cc failed: broken$"):
        compiler.load_library(native.SOURCE, "REAL=float")
    assert os.listdir(tmp_path / "cache" / "detrex") == []


def test_a_compiler_that_hangs_is_given_up(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(compiler, "TIMEOUT", 0.2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", failing_compiler(tmp_path, "while :; do :; done"))
    with pytest.raises(compiler.CompileError, match="cc took more than 0.2 s"):
        compiler.load_library(native.SOURCE, "REAL=float")


@needs_compiler
def test_a_changed_source_gets_a_library_of_its_own(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for source in ("int f(void) { return 1; }", "int f(void) { return 2; }"):
        (tmp_path / "f.c").write_text(source)
        assert compiler.load_library(tmp_path / "f.c", "X").f() == int(source[-4])
    assert len(os.listdir(tmp_path / "detrex")) == 2
