"""The rows of the benchmark of runtimes: ratios to eager PyTorch, the fastest has the goal."""

import numpy as np
import pytest
from torch import nn

from benchmarks import deployment
from detrex.predict.runtimes import Outputs, Runtime
from detrex.utils.errors import InputError

SECONDS = {"pytorch": 6.0, "compiled": 4.0, "onnxruntime": 12.0, "openvino": 2.0}


def runtime(shift: float) -> Runtime:
    """Three detections whose scores are off by ``shift``."""
    scores = np.array([[0.9, 0.5, 0.1]]) + shift
    outputs = Outputs(scores, np.array([[0, 1, 2]]), np.arange(12.0).reshape(1, 3, 4))
    return Runtime(lambda pixels, sizes: outputs, None)


def test_rows_compare_every_runtime_with_eager_pytorch(monkeypatch):
    made = {name: runtime(0.01 * (name == "openvino")) for name in SECONDS}
    monkeypatch.setattr(deployment, "build_model", lambda cfg: nn.Linear(1, 1))
    monkeypatch.setattr(deployment, "sides", lambda model, size, folder: made)
    monkeypatch.setattr(deployment, "interleaved", lambda functions, *_: dict(SECONDS))
    monkeypatch.setattr(
        deployment, "CASES", {"small": ("detr/configs/detr_r50_300ep.py", (32, 48))}
    )
    rows = {row["what"].rpartition(", ")[2]: row for row in deployment.run()}
    assert {name: row["ratio"] for name, row in rows.items()} == {
        "compiled": 1.5, "onnxruntime": 0.5, "openvino": 3.0
    }  # fmt: skip
    assert [name for name, row in rows.items() if "goal" in row] == ["openvino"]
    differences = [row["scores_differ_by"] for row in rows.values()]
    assert differences == [0, 0, pytest.approx(0.01)] and rows["openvino"]["tau"] == 1
    assert all(row["eager_s"] == 6.0 for row in rows.values())


def test_a_runtime_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "openvino" else 1)
    with pytest.raises(InputError, match="openvino is not installed: pip install"):
        next(deployment.run())
