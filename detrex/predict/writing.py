"""Trained detectors as files for other programs: ONNX and torch.export."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import torch
from torch.export import Dim, ExportedProgram

from detrex.layers.ms_deform_attn.function import VARIABLE
from detrex.modeling.detector import Detector
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.optional import need_package

from .graph import DetectorGraph

EXAMPLE = (640, 800)  # traced with; large enough for the proposals of every shipped config
OPSET = 18  # GridSample is in it since 16
INPUTS, OUTPUTS = ["pixels", "sizes"], ["scores", "labels", "boxes"]


def trace(detector: Detector, size: tuple[int, int] | None = None) -> ExportedProgram:
    """Return the detector's :class:`DetectorGraph` as a program of standard operators.

    It takes batches of any size. Images are of any size, too (more than 64 pixels a side, and at
    least as many tokens as there are proposals), unless ``size`` (height, width) fixes it.

    Raises:
        InputError: the model is no :class:`Detector`; without ``size``, one on a plain ViT of timm.
    """
    if not isinstance(detector, Detector):
        raise InputError(f"a {type(detector).__name__} cannot be exported: only detrex's detectors")
    if not size and any(getattr(m, "dynamic_img_size", False) for m in detector.modules()):
        raise InputError(
            "the graph of a plain ViT has one image size: give it by --height and --width"
        )
    height, width = size or EXAMPLE
    pixels = torch.zeros(2, 3, height, width, dtype=torch.uint8)
    sizes = torch.tensor([[height, width]] * 2)
    side = Dim.STATIC if size else Dim.DYNAMIC
    shapes = ({0: Dim.DYNAMIC, 2: side, 3: side}, {0: Dim.DYNAMIC})
    graph = DetectorGraph(detector).eval()
    with mock.patch.dict(os.environ, {VARIABLE: "pytorch"}):  # kernels are no standard operators
        return torch.export.export(graph, (pixels, sizes), dynamic_shapes=shapes)


def write_program(program: ExportedProgram, path: Path, about: Mapping[str, object]) -> None:
    """Write a file for ``torch.export.load``; ``about`` becomes its extra file "detrex.json"."""
    extra = {"detrex.json": json.dumps(about)}
    with atomic_write(path, "wb") as stream:
        torch.export.save(program, stream, extra_files=extra)


def write_onnx(program: ExportedProgram, path: Path, about: Mapping[str, object]) -> None:
    """Write an ONNX model; ``about`` becomes its metadata, each value as JSON.

    Raises:
        InputError: onnxscript is not installed.
    """
    need_package("onnxscript", "detrex[export]")
    from onnxscript.function_libs.torch_lib.ops import core

    # The exporter does not know the name of the stable sort; ONNX's TopK is stable.
    stable_sort = {torch.ops.aten.sort.stable: core.aten_sort}
    converted = torch.onnx.export(
        program,
        dynamo=True,
        input_names=INPUTS,
        output_names=OUTPUTS,
        opset_version=OPSET,
        custom_translation_table=stable_sort,
        verbose=False,
    )
    converted.model.metadata_props.update({k: json.dumps(v) for k, v in about.items()})
    with atomic_write(path, "wb") as stream:
        stream.write(converted.model_proto.SerializeToString())
