"""Files of tools/export.py in the runtimes that read them, on the CPU.

Legend: B images, D detections; boxes are x0, y0, x1, y1 in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from detrex.modeling.detector import Detector
from detrex.modeling.postprocess import best_of_overlapping, resize_to_original
from detrex.utils.errors import InputError
from detrex.utils.optional import need_package
from detrex.utils.text import first_line

from .graph import DetectorGraph
from .writing import INPUTS, OUTPUTS

if TYPE_CHECKING:
    import openvino


class Outputs(NamedTuple):
    """Scores and labels (B, D), boxes (B, D, 4)."""

    scores: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True)
class Runtime:
    """A detector that runs; call it with an image (3, H, W) uint8 for :class:`Outputs` of it alone.

    Attributes:
        run: pixels (B, 3, H, W) uint8, sizes (B, 2) int64 -> scores, labels, boxes.
        size: height and width to which every image is padded; None for any.
    """

    run: Callable[[np.ndarray, np.ndarray], tuple]
    size: tuple[int, int] | None

    def __call__(self, image: np.ndarray) -> Outputs:
        return Outputs(*self.run(*self.inputs(image).values()))

    def inputs(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The graph's pixels, with zeros below and to the right where the size is fixed, and sizes.

        Raises:
            InputError: the image is larger than that.
        """
        shape = image.shape[1:]
        height, width = self.size or shape
        if height < shape[0] or width < shape[1]:
            raise InputError(
                f"an image is resized to {shape[0]} x {shape[1]} pixels, this model is for up to "
                f"{height} x {width}: export it without --height --width"
            )
        pixels = np.zeros((1, 3, height, width), np.uint8)
        pixels[0, :, : shape[0], : shape[1]] = image
        return dict(zip(INPUTS, (pixels, np.array([shape], np.int64)), strict=True))


def in_pytorch(detector: nn.Module, size: tuple[int, int] | None) -> Runtime:
    """The detector itself, eager and with its fast paths, or a program of torch.export."""
    graph = DetectorGraph(detector) if isinstance(detector, Detector) else detector

    @torch.no_grad()
    def run(pixels: np.ndarray, sizes: np.ndarray) -> tuple:
        return tuple(x.numpy() for x in graph(torch.from_numpy(pixels), torch.from_numpy(sizes)))

    return Runtime(run, size)


def open_program(path: Path) -> Runtime:
    """A ``.pt2`` file in PyTorch."""
    program = torch.export.load(path)
    pixels = next(x for x in program.graph.nodes if x.op == "placeholder" and x.name == INPUTS[0])
    return in_pytorch(program.module(), _fixed(pixels.meta["val"].shape[2:]))


def open_onnxruntime(path: Path) -> Runtime:
    """An ONNX file in onnxruntime, with PyTorch's number of threads.

    Raises:
        InputError: onnxruntime is not installed, or cannot read the file; or tools/export.py has
            not written it.
    """
    need_package("onnxruntime", "detrex[export]")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    except Exception as error:  # its classes have no common one
        raise InputError(f"{path}: onnxruntime cannot read it: {first_line(error)}") from None
    inputs = {x.name: x.shape for x in session.get_inputs()}
    _check_names(path, inputs, [x.name for x in session.get_outputs()])

    def run(pixels: np.ndarray, sizes: np.ndarray) -> tuple:
        return tuple(session.run(OUTPUTS, dict(zip(INPUTS, (pixels, sizes), strict=True))))

    return Runtime(run, _fixed(inputs[INPUTS[0]][2:]))


def open_openvino(path: Path) -> Runtime:
    """An ONNX file, or OpenVINO's .xml, in OpenVINO, with PyTorch's number of threads.

    What is float in the file is computed in float32.

    Raises:
        InputError: openvino is not installed, or cannot read the file; or tools/export.py has not
            written it.
    """
    need_package("openvino", "detrex[export]")
    import openvino

    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}
    try:
        model = openvino.Core().read_model(path)
        _one_image(model)
        compiled = openvino.compile_model(
            model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **threads}
        )
    except RuntimeError as error:
        why = str(error).strip().splitlines()[-1]  # the lines before it name its source files
        raise InputError(f"{path}: OpenVINO cannot read it: {why}") from None
    inputs = {x.get_any_name(): x.get_partial_shape() for x in model.inputs}
    _check_names(path, inputs, [x.get_any_name() for x in model.outputs])
    sides = [side.get_length() if side.is_static else None for side in inputs[INPUTS[0]]]

    def run(pixels: np.ndarray, sizes: np.ndarray) -> tuple:
        results = compiled(dict(zip(INPUTS, (pixels, sizes), strict=True)))
        return tuple(results[name] for name in OUTPUTS)

    return Runtime(run, _fixed(sides[2:]))


def _one_image(model: openvino.Model) -> None:
    """Fix the batch to one image where the size of images is fixed: shapes that are known are
    computed once."""
    shapes = {x.get_any_name(): x.get_partial_shape() for x in model.inputs}
    if INPUTS[0] in shapes and all(side.is_static for side in list(shapes[INPUTS[0]])[1:]):
        model.reshape({name: [1, *list(shape)[1:]] for name, shape in shapes.items()})


RUNTIMES = {"onnxruntime": open_onnxruntime, "openvino": open_openvino}
OPENERS = {".onnx": RUNTIMES, ".pt2": {"torch": open_program}}  # kind of file -> package -> opener


def _fixed(sides: list) -> tuple[int, int] | None:
    """Height and width if both are numbers, not names or unknown."""
    return tuple(sides) if all(isinstance(side, int) for side in sides) else None


def _check_names(path: Path, inputs: dict, outputs: list[str]) -> None:
    if sorted(inputs) != sorted(INPUTS) or sorted(outputs) != sorted(OUTPUTS):
        raise InputError(
            f"{path}: takes {', '.join(inputs)} and returns {', '.join(outputs)}: it is no "
            "detector that tools/export.py wrote"
        )


class Deployed(nn.Module):
    """A runtime in the place of a detector, for an evaluation: images one by one.

    Args:
        runtime: runs the network.
        nms_iou: of the detector.
    """

    def __init__(self, runtime: Runtime, nms_iou: float | None) -> None:
        super().__init__()
        self.runtime, self.nms_iou = runtime, nms_iou

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        detections = [self._instances(x["image"].numpy()) for x in batched_inputs]
        return resize_to_original(detections, batched_inputs)

    def _instances(self, image: np.ndarray) -> Instances:
        scores, labels, boxes = (torch.from_numpy(x[0]) for x in self.runtime(image))
        fields = {"pred_boxes": Boxes(boxes.float()), "scores": scores, "pred_classes": labels}
        return best_of_overlapping(Instances(image.shape[1:], **fields), self.nms_iou)
