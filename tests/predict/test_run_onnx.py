"""tools/run_onnx.py, which knows nothing of detrex, finds what predict.py finds."""

import json
import runpy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances
from PIL import Image

from detrex.data import DetrDatasetMapper
from detrex.evaluation.calibration.maps import ScoreMaps
from detrex.modeling.postprocess import best_of_overlapping
from detrex.predict.selection import Selection
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
        detections = model(str(path))
        assert len(detections) == len(expected) > 10
        scores = [[one["score"] for one in some] for some in (detections, expected)]
        np.testing.assert_allclose(*scores, rtol=0, atol=5e-3)
        best = detections[0], expected[0]
        assert best[0]["label"] == best[1]["label"] and best[0]["class"] == best[1]["class"]
        size = max(Image.open(path).size)
        boxes = [np.array(one["box"]) / size for one in best]
        np.testing.assert_allclose(*boxes, rtol=0, atol=1e-2)


MAPS = {
    "temperature": [[1.5], [0.5]],
    "platt": [[0.7, 0.3], [1.2, -0.5]],
    "isotonic": [[0.0, 0.4, 1.0, 0.1, 0.5, 0.9], [0.0, 0.6, 1.0, 0.0, 0.2, 0.8]],
}


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize(
    ("threshold", "calibrated", "nms_iou"),
    [("auto", True, 0.6), ("auto", False, None), (0.4, True, None), (0.4, False, 0.3)],
)
def test_the_same_detections_are_chosen_as_by_the_predictor(
    predictor, model, monkeypatch, kind, threshold, calibrated, nms_iou
):
    maps = ScoreMaps(kind, "precision", MAPS[kind], {"LRP": [0.45, 0.3]})
    monkeypatch.setattr(predictor, "selection", Selection(threshold, maps, calibrated))
    monkeypatch.setattr(predictor.model, "nms_iou", nms_iou)
    monkeypatch.setattr(model, "about", json.loads(json.dumps(predictor.about())))
    random = np.random.default_rng(0)
    corners = random.uniform(0, 60, (300, 2))
    boxes = np.concatenate([corners, corners + random.uniform(-1, 40, (300, 2))], 1)
    boxes = boxes.clip(0, 80).astype(np.float32)
    labels, scores = random.integers(0, 2, 300), random.random(300, np.float32)
    raw = Instances((80, 80), pred_boxes=Boxes(torch.from_numpy(boxes)))
    raw.scores, raw.pred_classes = torch.from_numpy(scores), torch.from_numpy(labels)
    inside = raw[raw.pred_boxes.nonempty()]
    expected = predictor.selection(best_of_overlapping(inside, nms_iou))
    chosen = model.chosen(scores, labels, boxes)
    assert 20 < len(expected) < len(inside) < 300
    np.testing.assert_allclose(chosen[0], expected.scores, rtol=1e-6)
    assert np.array_equal(chosen[1], expected.pred_classes)
    assert np.array_equal(chosen[2], expected.pred_boxes.tensor)


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
