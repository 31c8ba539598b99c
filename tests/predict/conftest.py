"""A small Rank-DETR that all tests of exports share: tracing and writing it takes long."""

import os

import numpy as np
import pytest
import torch
from iopath.common.file_io import file_lock
from PIL import Image

import detrex
from detrex.predict import trace, write_onnx, write_program
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
def shared(tmp_path_factory):
    """Opens a file that all test processes share; the first one makes it."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    def path_of(name, make):
        with file_lock(str(folder / name)):
            if not (folder / name).exists():
                make(folder / name)
        return folder / name

    return path_of


@pytest.fixture(scope="session")
def program_file(rank_detr, shared):
    """One program for batches and images of any size."""
    return shared("shared.pt2", lambda path: write_program(trace(rank_detr), path, {}))


@pytest.fixture(scope="session")
def program(program_file):
    return torch.export.load(program_file)


@pytest.fixture(scope="session")
def onnx_file(predictor, shared, request):
    """The program as an ONNX file."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)

    def make(path):
        write_onnx(request.getfixturevalue("program"), path, predictor.about())

    return shared("shared.onnx", make)
