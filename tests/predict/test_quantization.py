"""float16 and int8 files: what is lowered, and that they still run."""

import runpy

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from omegaconf import OmegaConf

from detrex.predict.quantization import (
    FEATURES,
    WRITERS,
    check_packages,
    module_of,
    onnx_float16,
    onnx_int8,
    openvino_float16,
    openvino_int8,
    products,
    read_onnx,
)
from detrex.predict.runtimes import open_onnxruntime, open_openvino
from detrex.utils.errors import InputError
from tests.models import ROOT

pytest.importorskip("onnxruntime")
CASES = {
    "onnxruntime fp16": (onnx_float16, open_onnxruntime, "x.onnx"),
    "onnxruntime int8": (onnx_int8, open_onnxruntime, "x.onnx"),
    "openvino fp16": (openvino_float16, open_openvino, "x.xml"),
    "openvino int8": (openvino_int8, open_openvino, "x.xml"),
}


@pytest.fixture(scope="module")
def image(predictor, folder):
    return predictor.inputs(folder / "0.jpg")["image"].numpy()


def test_what_carries_features_is_lowered_and_what_decides_is_not(onnx_file):
    model = read_onnx(onnx_file)
    nodes = {node.name: module_of(node) for node in model.graph.node}
    chosen = {nodes[name] for name in products(model, FEATURES)}
    for part in ("backbone.res3.0", "neck.convs.0", "encoder.layers.0.ffns", "value_proj"):
        assert any(part in module for module in chosen), part
    for part in ("class_embed", "bbox_embed", "sampling_offsets", "attention_weights", "racq"):
        assert any(part in module for module in nodes.values()), part
        assert not any(part in module for module in chosen), part
    assert all(module in nodes.values() for module in chosen)


@pytest.mark.parametrize("case", CASES)
def test_lowered_files_detect_nearly_the_same(case, onnx_file, image, tmp_path):
    write, opener, name = CASES[case]
    for package in (case.split()[0], "nncf" if case == "openvino int8" else "onnx"):
        pytest.importorskip(package)
    reference = open_onnxruntime(onnx_file)
    write(onnx_file, tmp_path / name, FEATURES, [reference.inputs(image)] * 2)
    expected, lowered = reference(image), opener(tmp_path / name)(image)
    best = np.abs(expected.scores - lowered.scores).max()
    assert 0 < best < (0.01 if "fp16" in case else 0.3)  # int8: 0.20 and 0.18 here
    assert {x.dtype for x in lowered} == {x.dtype for x in expected}


def test_every_route_is_tested():
    assert {write for write, *_ in CASES.values()} == {*WRITERS.values()}


def test_modules_that_no_node_is_in_are_refused(onnx_file):
    for pattern in ("nothing", "("):
        with pytest.raises(InputError, match=r"--modules"):
            products(read_onnx(onnx_file), pattern)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "nncf" else name)
    check_packages(["onnxruntime", "openvino"], ["fp16"])
    with pytest.raises(InputError, match="nncf is not installed: pip install"):
        check_packages(["openvino"], ["int8"])


def test_images_to_calibrate_on_are_spread_over_the_split(predictor, folder, monkeypatch):
    tool = runpy.run_path(str(ROOT / "tools/quantize.py"))["calibration_images"]
    cfg = OmegaConf.create({"dataloader": {"train": {"dataset": {"names": "some"}}}})
    records = [{"file_name": str(folder / f"{i % 3}.jpg")} for i in range(12)]
    monkeypatch.setattr(DatasetCatalog, "get", lambda name: records)
    images = tool(cfg, predictor, "train", 3)  # records 0, 4 and 8
    expected = [predictor.inputs(folder / f"{i}.jpg")["image"].numpy() for i in (0, 1, 2)]
    assert all(np.array_equal(x, y) for x, y in zip(images, expected, strict=True))
    monkeypatch.setattr(DatasetCatalog, "get", lambda name: [])
    with pytest.raises(InputError, match="--split train: some has no images to calibrate on"):
        tool(cfg, predictor, "train", 3)
