"""tools/run_onnx.py, which knows nothing of detrex, finds what predict.py finds."""

import json
import runpy
from types import SimpleNamespace

import numpy as np
import pytest
from detectron2.data import transforms as T
from PIL import Image

from detrex.data import DetrDatasetMapper
from detrex.utils.errors import InputError
from tests.models import ROOT
from tests.report.fake_runs import CLASSES

for name in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(name)


@pytest.fixture(scope="module")
def model(onnx_file):
    return runpy.run_path(str(ROOT / "tools/run_onnx.py"))["Model"](str(onnx_file))


def test_detections_are_those_of_the_predictor(folder, predictor, model):
    assert model.about["classes"] == list(CLASSES) and model.about["short_edge"] == 64
    for number in range(3):
        path = folder / f"{number}.jpg"
        expected = predictor.to_dict(predictor(path))["detections"]
        detections = model(str(path), threshold=0)
        assert len(detections) == len(expected) > 10
        scores = [[one["score"] for one in some] for some in (detections, expected)]
        np.testing.assert_allclose(*scores, rtol=0, atol=5e-3)
        best = detections[0], expected[0]
        assert best[0]["label"] == best[1]["label"] and best[0]["class"] == best[1]["class"]
        size = max(Image.open(path).size)
        boxes = [np.array(one["box"]) / size for one in best]
        np.testing.assert_allclose(*boxes, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("augmentation", "sizes"),
    [
        (T.ResizeShortestEdge(800, 1333), [(640, 480), (4000, 1000), (31, 977), (500, 333)]),
        (T.ResizeShortestEdge(64), [(640, 480), (4000, 1000), (97, 31)]),
        (T.Resize((640, 512)), [(640, 480), (20, 30)]),
    ],
)
def test_sizes_are_those_of_the_test_mapper(predictor, model, monkeypatch, augmentation, sizes):
    mapper = DetrDatasetMapper([augmentation], None, is_train=False)
    monkeypatch.setattr(predictor, "_mapper", mapper)
    monkeypatch.setattr(model, "about", json.loads(json.dumps(predictor.about())))
    for width, height in sizes:
        image = mapper.augment(np.zeros((height, width, 3), np.uint8))[0]
        assert model.input_size(width, height) == tuple(image.shape[:0:-1])


def test_a_model_of_a_fixed_size_gets_padding(model, monkeypatch):
    fixed = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(shape=["batch", 3, 8, 10])])
    monkeypatch.setattr(model, "session", fixed)
    pixels = np.arange(8 * 7 * 3, dtype=np.uint8).reshape(8, 7, 3)
    batch = model.padded(pixels)
    assert batch.shape == (1, 3, 8, 10) and not batch[..., 7:].any()
    assert np.array_equal(batch[0, :, :, :7].transpose(1, 2, 0), pixels)
    with pytest.raises(SystemExit, match="resized to 9 x 7 pixels, this model is for up to 8 x 10"):
        model.padded(np.zeros((9, 7, 3), np.uint8))


def test_a_mapper_that_does_more_is_named(predictor, monkeypatch):
    for augmentation in ([], [T.RandomFlip()], [T.ResizeShortestEdge([60, 80])]):
        mapper = DetrDatasetMapper(augmentation, None, is_train=False)
        monkeypatch.setattr(predictor, "_mapper", mapper)
        with pytest.raises(InputError, match="test.mapper.augmentation is"):
            predictor.about()
