"""RT-DETR as ONNX, in images of one size; ``tests/nightly/exports.py`` exports it for any size."""

from __future__ import annotations

from pathlib import Path

import pytest

from detrex.predict import trace, write_onnx
from tests.predict.graphs import assert_agrees, detector, onnx_runner


def test_onnx_agrees_with_pytorch(tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    model = detector("projects/rt_detr/configs/rtdetr_r50vd_6x_coco.py")
    write_onnx(trace(model, (96, 128)), tmp_path / "model.onnx", {})
    run = onnx_runner(tmp_path / "model.onnx")
    assert_agrees(run, model, 1e-4, [(1, 96, 128), (2, 96, 128)])
