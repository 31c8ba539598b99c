"""COCO box scores the plain way: pycocotools, from loading to the twelve numbers."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def load(ground_truth: dict, detections: list[dict]) -> COCOeval:
    """Index both sides; ``ground_truth`` and ``detections`` are pycocotools' to write into."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = ground_truth
        coco.createIndex()
        return COCOeval(coco, coco.loadRes(detections), "bbox")


def score(evaluation: COCOeval) -> np.ndarray:
    """AP, AP50, AP75, AP by size (3), AR at 1, 10, 100, AR by size (3), in [0, 1]."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats
