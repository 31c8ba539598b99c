"""The attention benchmark: both sides equal, and the tool that runs it. Nothing is timed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from benchmarks import attention
from detrex.layers.ms_deform_attn import attention_path
from detrex.utils.collect_env import environment

TOOL = Path(__file__).parents[2] / "tools" / "benchmark.py"


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("benchmark_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_both_sides_of_the_benchmark_are_equal(kind: str, monkeypatch) -> None:
    monkeypatch.setattr(attention, "SHAPES", [(4, 5), (2, 3)])
    monkeypatch.setattr(attention, "TOKENS", 26)
    monkeypatch.setattr(attention, "QUERIES", {"encoder": 26, "decoder": 7})
    value, shapes, *rest = attention.inputs(kind, "cpu")
    leaves = [value, *rest[:2]]
    assert rest[0].shape == (2, attention.QUERIES[kind], 8, 2, 4, 2)
    assert rest[2].shape[-1] == (2 if kind == "encoder" else 4)
    results = []
    for function in (attention.plain, attention.ours):
        out = function(value, shapes, *rest)
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_tool_prints_and_writes_rows(tool, tmp_path, monkeypatch, capsys) -> None:
    row = {"what": "attention, x", "baseline_s": 0.5, "ours_s": 0.05, "ratio": 10.0, "goal": 8}
    asked = []
    monkeypatch.setattr(attention, "run", lambda repeats: asked.append(repeats) or [row])
    threads = torch.get_num_threads()
    argv = ["benchmark.py", "attention", "--repeats", "3", "--json", str(tmp_path / "x.json")]
    monkeypatch.setattr("sys.argv", argv)
    tool.main()
    torch.set_num_threads(threads)
    expected = "attention, x: baseline 500.0 ms, ours 50.0 ms, 10.0x, goal 8\n"
    assert capsys.readouterr().out == expected
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["rows"] == [row] and asked == [3]
    assert written["environment"]["torch"] == torch.__version__.split("+")[0]


def test_the_environment_names_the_attention_path() -> None:
    found = environment()
    assert found["attention on cpu"] == attention_path("cpu", torch.float32)
    assert found["detrex"] != "not installed"
