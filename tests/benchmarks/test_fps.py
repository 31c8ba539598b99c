"""Images a second: the median of the measured runs; the command reads sizes and batches."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from benchmarks import fps

ROOT = Path(__file__).parents[2]
DETR = "projects/detr/configs/detr_r50_300ep.py"


def test_rates_are_medians_of_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    # Rounds of a batch of four and one of two images; the first round is not measured.
    taken = [9, 9, 2, 2, 1, 2, 4, 1]
    now = iter([x for i, t in enumerate(taken) for x in (100 * i, 100 * i + t)])
    monkeypatch.setattr(fps.time, "perf_counter", lambda: float(next(now)))
    batches = []

    class Model(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, batch: list[dict]) -> None:
            batches.append([tuple(x["image"].shape) for x in batch])

    monkeypatch.setattr(fps, "instantiate", lambda cfg: Model())
    large, small = fps.run(config_file=str(ROOT / DETR), batch_sizes=[4, 2], sizes=[(32, 48)])
    both = {"batch_s": 2.0, "images_per_s": 2.0, "of_first": 1.0}
    assert large == {"what": "Model, 4 x 32x48", **both}
    both |= {"images_per_s": 1.0, "of_first": 0.5}  # the median of 1 / 2, 1 / 4 and 2 / 1
    assert small == {"what": "Model, 2 x 32x48", **both}
    assert batches == [[(3, 32, 48)] * 4, [(3, 32, 48)] * 2] * 4


def tool():
    spec = importlib.util.spec_from_file_location("benchmark_tool", ROOT / "tools/benchmark.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    line = f"fps --config-file {ROOT / DETR} --sizes 64x96 --batch-sizes 1 2 --repeats 1"
    monkeypatch.setattr("sys.argv", ["benchmark.py", *line.split()])
    tool().main()
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(":")[0] for row in rows] == ["DETR, 1 x 64x96", "DETR, 2 x 64x96"]
    assert all("images per s" in row for row in rows)
