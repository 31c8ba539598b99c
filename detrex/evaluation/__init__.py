"""COCO scores, and the diagnosis of alignment."""

from .coco import COCOEvaluator
from .coco_scores import evaluate_detections
from .crowd import CrowdEvaluator
from .lvis import LVISEvaluator

__all__ = ["COCOEvaluator", "CrowdEvaluator", "LVISEvaluator", "evaluate_detections"]
