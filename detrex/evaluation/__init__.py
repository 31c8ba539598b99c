"""COCO scores, and the diagnosis of alignment."""

from .coco import COCOEvaluator
from .coco_scores import evaluate_detections

__all__ = ["COCOEvaluator", "evaluate_detections"]
