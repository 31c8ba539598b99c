"""Soft-NMS of detections: by hand, against a plain loop, and as a switch of Co-DETR."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import Boxes, Instances

from projects.co_detr.modeling.soft_nms import soft_nms
from tests.models import image, tiny

CONFIG = "projects/co_detr/configs/co_dino_5scale_r50_1x_coco.py"


def detections(boxes: list, scores: list[float], classes: list[int]) -> Instances:
    fields = dict(pred_boxes=Boxes(torch.tensor(boxes)), scores=torch.tensor(scores))
    return Instances((100, 100), **fields, pred_classes=torch.tensor(classes))


def iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    return width * height / (area - width * height)


def by_hand(boxes: list, scores: list[float], classes: list[int], threshold: float) -> dict:
    """Score of each detection, one after the other."""
    left, scores = set(range(len(scores))), list(scores)
    while left:
        best = max(left, key=lambda i: scores[i])
        left.remove(best)
        for i in left:
            overlap = iou(boxes[best], boxes[i])
            if classes[i] == classes[best] and overlap >= threshold:
                scores[i] *= 1 - overlap
    return {tuple(box): score for box, score in zip(boxes, scores, strict=True)}


def test_an_overlapping_box_loses_score_and_place() -> None:
    boxes = [[0.0, 0, 10, 10], [0.0, 0, 10, 8], [50.0, 50, 60, 60], [0.0, 0, 10, 9]]
    decayed = soft_nms(detections(boxes, [0.9, 0.8, 0.3, 0.7], [1, 1, 1, 2]), 0.5)
    assert decayed.pred_classes.tolist() == [1, 2, 1, 1]  # the other class is left alone
    torch.testing.assert_close(decayed.scores, torch.tensor([0.9, 0.7, 0.3, 0.8 * 0.2]))
    assert decayed.pred_boxes.tensor.tolist() == [boxes[i] for i in (0, 3, 2, 1)]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.8, 1.0])
def test_equals_a_plain_loop(threshold: float) -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(60, 2, generator=generator) * 20
    size = 5 + torch.rand(60, 2, generator=generator) * 30
    boxes = torch.cat([corner, corner + size], 1).tolist()
    scores = torch.rand(60, generator=generator).tolist()
    classes = torch.randint(3, (60,), generator=generator).tolist()
    decayed = soft_nms(detections(boxes, scores, classes), threshold)
    assert len(decayed) == 60 and decayed.scores.diff().le(0).all()
    expected = by_hand(boxes, scores, classes, threshold)
    values = [expected[tuple(box)] for box in decayed.pred_boxes.tensor.tolist()]
    torch.testing.assert_close(decayed.scores, torch.tensor(values))


def test_nothing_found() -> None:
    assert len(soft_nms(detections([], [], []), 0.5)) == 0


def test_a_switch_of_the_model() -> None:
    model = tiny(CONFIG).eval()
    batch = [image(64, 96, 3, seed=1), image(80, 48, 2, seed=2)]
    with torch.no_grad():
        model.bbox_embed[1].layers[-1].bias[2:] = 2.0  # the last layer's boxes are large
        plain = [x["instances"] for x in model(batch)]
        model.soft_nms = 0.2
        soft = [x["instances"] for x in model(batch)]
    for before, after in zip(plain, soft, strict=True):
        expected = soft_nms(before, 0.2)
        torch.testing.assert_close(after.scores, expected.scores)
        assert after.scores.sum() < 0.8 * before.scores.sum()
