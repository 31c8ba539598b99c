"""Inference of exported detectors against eager PyTorch: compiled, onnxruntime, OpenVINO.

RT-DETR R18 at 640x640 and Rank-DETR R50 at 800x1066, random weights, one image. All sides start
from uint8 pixels and end with detections, in float32. Needs ``pip install 'detrex[export]'``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.step import ROOT, images, interleaved
from detrex.checkpoint.model import build_model
from detrex.config.load import load_config
from detrex.predict import trace, write_onnx
from detrex.predict.agreement import over_images
from detrex.predict.graph import DetectorGraph
from detrex.predict.runtimes import RUNTIMES, Runtime, in_pytorch
from detrex.utils.optional import need_package

CASES = {  # name -> config, height and width
    "RT-DETR R18": ("rt_detr/configs/rtdetr_r18vd_6x_coco.py", (640, 640)),
    "Rank-DETR R50": ("rank_detr/configs/rank_detr_r50_two_stage_12ep.py", (800, 1066)),
}
GOAL = 1.5  # of the fastest


def compiled(model: nn.Module, size: tuple[int, int]) -> Runtime:
    """The model in torch.compile, for one size."""
    return in_pytorch(torch.compile(DetectorGraph(model), dynamic=False), size)


def sides(model: nn.Module, size: tuple[int, int], folder: Path) -> dict[str, Runtime]:
    """The model in every runtime; PyTorch, which is what others are compared with, comes first."""
    path = folder / "model.onnx"
    write_onnx(trace(model, size), path, {})
    exported = {name: opener(path) for name, opener in RUNTIMES.items()}
    return {"pytorch": in_pytorch(model, size), "compiled": compiled(model, size), **exported}


def case_rows(name: str, config: str, size: tuple[int, int], repeats: int) -> list[dict]:
    """Each runtime's time against PyTorch's, and how far its scores are off."""
    torch.manual_seed(0)
    model = build_model(load_config(str(ROOT / "projects" / config))).eval()
    image = images(1, size, "cpu")[0]["image"].numpy()
    with tempfile.TemporaryDirectory() as folder:
        runtimes = sides(model, size, Path(folder))
    apart = {key: over_images(runtimes["pytorch"], x, [image]) for key, x in runtimes.items()}
    functions = {key: partial(runtime, image) for key, runtime in runtimes.items()}
    times = interleaved(functions, repeats, "cpu")
    base, rows = times.pop("pytorch"), []
    best = min(times, key=times.get)
    for key, taken in times.items():
        row = {"what": f"{name}, 1 x {size[0]}x{size[1]}, {key}", "eager_s": base, "this_s": taken}
        row |= {"ratio": base / taken} | ({"goal": GOAL} if key == best else {})
        rows.append(row | {"scores_differ_by": apart[key].score, "tau": apart[key].tau})
    return rows


def run(repeats: int = 5) -> Iterator[dict]:
    """Rows per model and runtime: seconds of PyTorch and of the runtime, and their ratio.

    Raises:
        InputError: a runtime is not installed.
    """
    for package in ("onnxscript", *RUNTIMES):
        need_package(package, "detrex[export]")
    for name, (config, size) in CASES.items():
        yield from case_rows(name, config, size, repeats)
