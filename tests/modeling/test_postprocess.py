"""Detections in the pixels of the original files, against detectron2's function."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, Instances

from detrex.modeling.postprocess import resize_to_original

FILES = [{"height": 100, "width": 90}, {"height": 31, "width": 64}, {}]


def detections(count: int, seed: int) -> Instances:
    """In an image of 40 x 60 pixels; some boxes reach out of it, some have no area left inside."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 90 - 15
    size = torch.rand(count, 2, generator=generator) * 30
    result = Instances((40, 60), scores=torch.rand(count, generator=generator))
    result.pred_boxes = Boxes(torch.cat([corner, corner + size], 1))
    result.pred_classes = torch.arange(count)
    return result


def test_as_detectron2() -> None:
    results = [detections(50, 0), detections(50, 1), detections(0, 2)]
    pairs = zip(copy.deepcopy(results), FILES, strict=True)
    expected = [
        detector_postprocess(x, file.get("height", 40), file.get("width", 60)) for x, file in pairs
    ]
    assert any(len(x) < 50 for x in expected[:2])
    for output, other in zip(resize_to_original(results, FILES), expected, strict=True):
        resized = output["instances"]
        assert resized.image_size == other.image_size
        assert torch.equal(resized.pred_boxes.tensor, other.pred_boxes.tensor)
        assert torch.equal(resized.scores, other.scores)
        assert torch.equal(resized.pred_classes, other.pred_classes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_boxes_that_are_no_numbers_are_an_error(value: float) -> None:
    result = detections(3, 0)
    result.pred_boxes.tensor[1, 2] = value
    with pytest.raises(AssertionError, match="infinite or NaN"):
        resize_to_original([result], FILES[:1])


def test_fields_of_others_are_detectron2s_matter() -> None:
    result = detections(5, 0)
    result.pred_boxes = Boxes(torch.tensor([[1.0, 2.0, 30.0, 20.0]]).repeat(5, 1))
    result.pred_keypoints = torch.ones(5, 2, 3)
    resized = resize_to_original([result], [{"height": 80, "width": 60}])[0]["instances"]
    assert resized.pred_keypoints[0, 0].tolist() == [1.0, 2.0, 1.0]
