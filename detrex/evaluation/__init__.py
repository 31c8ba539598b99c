"""COCO scores, and the diagnosis of alignment."""

from detrex.utils.lazy import lazy_names

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "coco": "COCOEvaluator",
        "coco_scores": "evaluate_detections",
        "crowd": "CrowdEvaluator",
        "lvis": "LVISEvaluator",
    },
)
