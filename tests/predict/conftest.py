"""A small Rank-DETR that all tests of exports share: tracing and writing it takes long."""

import numpy as np
import pytest
from PIL import Image

import detrex
from detrex.predict import trace, write_onnx
from tests.predict.graphs import fill_zeros
from tests.report.fake_runs import write_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A model, and photographs that are not of the model's size."""
    folder = tmp_path_factory.mktemp("export")
    write_model(folder, folder)
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, (width, height) in enumerate(((150, 100), (90, 200), (400, 130))):
        rough = rng.integers(0, 256, (height // 10, width // 10, 3), np.uint8)
        image = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.jpg", exif=exif if number == 2 else b"")
    return folder


@pytest.fixture(scope="session")
def predictor(folder):
    predictor = detrex.Predictor(folder / "config.yaml", folder / "model.pth", "cpu", threshold=0)
    fill_zeros(predictor.model)
    return predictor


@pytest.fixture(scope="session")
def rank_detr(predictor):
    return predictor.model


@pytest.fixture(scope="session")
def program(rank_detr):
    """One program for batches and images of any size."""
    return trace(rank_detr)


@pytest.fixture(scope="session")
def onnx_file(folder, predictor, program):
    """The program as an ONNX file."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    write_onnx(program, folder / "model.onnx", predictor.about())
    return folder / "model.onnx"
