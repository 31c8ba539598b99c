"""Exported detectors in float16 and int8, for onnxruntime and OpenVINO.

int8 is static: the ranges of activations are measured on images. Weights are symmetric, by channel
and of 7 bits, since products of 8 bits overflow on x86 CPUs without VNNI.
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.optional import need_package

from .writing import INPUTS

if TYPE_CHECKING:
    import onnx

PRODUCTS = {"Conv", "Gemm", "MatMul"}
SCOPES = "pkg.torch.onnx.name_scopes"  # of a node: the modules that it is in, as a list in Python
# Backbone, neck, and in the layers what carries features. The rest decides scores, ranks, boxes
# and where attention looks; it is a small part of the time.
FEATURES = (
    r"detector\.(backbone|neck|transformer\.(encoder|decoder)\.layers\.\d+\."
    r"(ffns|norms|.*(value_proj|output_proj|out_proj)))"
)


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file of tools/export.py.

    Raises:
        InputError: onnx is not installed; it is another kind of file.
    """
    need_package("onnx", "detrex[export]")
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path)
    except DecodeError:
        model = None
    if model is None or [x.name for x in model.graph.input] != INPUTS:
        raise InputError(f"{path}: not a model that tools/export.py -o model.onnx wrote")
    return model


def check_packages(runtimes: Sequence[str], precisions: Sequence[str]) -> None:
    """Check that what writes and runs the files is installed.

    Raises:
        InputError: names the package that is not.
    """
    for runtime in runtimes:
        need_package(runtime, "detrex[export]")
    if "openvino" in runtimes and "int8" in precisions:
        need_package("nncf", "detrex[export]")


def module_of(node: onnx.NodeProto) -> str:
    """Dotted name of the innermost module that a node is in; "" if it is in none."""
    scopes = next((x.value for x in node.metadata_props if x.key == SCOPES), "[]")
    return next((x for x in reversed(ast.literal_eval(scopes)) if x.startswith("detector.")), "")


def _in_modules(model: onnx.ModelProto, modules: str) -> Callable[[onnx.NodeProto], bool]:
    """Whether a node's module begins as the regular expression says.

    Raises:
        InputError: no node's does, or it is no regular expression.
    """
    try:
        matches = re.compile(modules).match
    except re.error as error:
        raise InputError(f"--modules {modules}: {error}") from None
    if not any(matches(module_of(node)) for node in model.graph.node):
        raise InputError(f"--modules {modules}: no module's name begins like this")
    return lambda node: bool(matches(module_of(node)))


def products(model: onnx.ModelProto, modules: str) -> list[str]:
    """Names of the convolutions and products with weights of some modules."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inside = _in_modules(model, modules)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in PRODUCTS and weights.intersection(node.input) and inside(node)
    ]


def onnx_float16(source: Path, target: Path, modules: str, samples: Sequence) -> None:
    """Write an ONNX file in which the nodes of some modules compute in float16, others as before.

    Inputs and outputs keep their types; ``samples`` are not needed.
    """
    from onnxruntime.transformers import float16

    model = read_onnx(source)
    inside = _in_modules(model, modules)
    blocked = [node.name for node in model.graph.node if not inside(node)]
    converted = float16.convert_float_to_float16(model, keep_io_types=True, node_block_list=blocked)
    with atomic_write(target, "wb") as stream:
        stream.write(converted.SerializeToString())


def onnx_int8(source: Path, target: Path, modules: str, samples: Sequence[dict]) -> None:
    """Write an ONNX file in which the products of some modules are int8 (QDQ).

    Args:
        source: float.
        target: is written.
        modules: regular expression of their names.
        samples: inputs of the graph, on which ranges are measured.
    """
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.samples = iter(samples)

        def get_next(self) -> dict | None:
            return next(self.samples, None)

    model = read_onnx(source)
    quantization.quantize_static(
        model,
        target,
        Reader(),
        nodes_to_quantize=products(model, modules),
        op_types_to_quantize=sorted(PRODUCTS),
        per_channel=True,
        reduce_range=True,
        extra_options={"WeightSymmetric": True},
    )


def openvino_float16(source: Path, target: Path, modules: str, samples: Sequence) -> None:
    """Write an OpenVINO model whose weights are float16, of all modules.

    The device decides in what it computes; ``modules`` and ``samples`` are not needed.
    """
    import openvino

    openvino.save_model(openvino.Core().read_model(source), target, compress_to_fp16=True)


def openvino_int8(source: Path, target: Path, modules: str, samples: Sequence[dict]) -> None:
    """Write an OpenVINO model in which the products of some modules are int8.

    Arguments as :func:`onnx_int8`'s.
    """
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)  # else a line for each node that stays float
    chosen = set(products(read_onnx(source), modules))
    model = openvino.Core().read_model(source)
    others = [x.get_friendly_name() for x in model.get_ops() if x.get_friendly_name() not in chosen]
    fix = nncf.quantization.advanced_parameters.OverflowFix.ENABLE
    quantised = nncf.quantize(
        model,
        nncf.Dataset(samples),
        subset_size=len(samples),
        ignored_scope=nncf.IgnoredScope(names=others, validate=False),
        advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=fix),
    )
    openvino.save_model(quantised, target, compress_to_fp16=False)


WRITERS = {  # runtime, precision -> what writes it
    ("onnxruntime", "fp16"): onnx_float16,
    ("onnxruntime", "int8"): onnx_int8,
    ("openvino", "fp16"): openvino_float16,
    ("openvino", "int8"): openvino_int8,
}
SUFFIXES = {"onnxruntime": ".onnx", "openvino": ".xml"}
