"""Soft-NMS, with which upstream scores Co-DINO."""

from __future__ import annotations

import torch
from detectron2.structures import Instances, pairwise_iou


def soft_nms(detections: Instances, threshold: float) -> Instances:
    """Linear Soft-NMS (Bodla et al., ICCV 2017, section 3), class by class.

    From the best detection on: those that are left and overlap it by ``threshold`` (in [0, 1]) or
    more have their score multiplied by 1 - IoU. None is removed.

    Args:
        detections: an image's D detections: pred_boxes, scores (D,) and pred_classes (D,).

    Returns:
        The detections with their new scores, best first.
    """
    same = detections.pred_classes[:, None] == detections.pred_classes
    overlap = pairwise_iou(detections.pred_boxes, detections.pred_boxes) * same
    # Each step chooses by the scores of the one before: a GPU would be waited for every time.
    keep = 1 - overlap.where(overlap >= threshold, 0).cpu()
    scores = detections.scores.cpu()
    left = torch.ones_like(scores, dtype=torch.bool)
    for _ in range(len(scores)):
        best = scores.where(left, -1).argmax()
        left[best] = False
        scores = torch.where(left, scores * keep[best], scores)
    order = scores.argsort(descending=True, stable=True)
    rescored = detections[order.to(detections.scores.device)]
    rescored.scores = scores[order].to(detections.scores)
    return rescored
