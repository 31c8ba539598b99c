"""Alignment of confidence and localisation, summed over images.

Legend: L layers, N samples (queries or detections) of an image, K classes, G objects; boxes are
xyxy in pixels of the original image, scores in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from detrex.evaluation.coco_scores import AREAS, SIZE_LIMITS
from detrex.evaluation.matching import IOU, Truth, pairwise_iou
from detrex.layers import box_xyxy_to_cxcywh
from detrex.modeling.matcher import HungarianMatcher

from .definitions import Definitions, best_regressed
from .lrp import STEPS, count_detections
from .statistics import bin_of, moments, spearman

SIZES = AREAS[1:]
MULTIPLES = (1, 2, 3, 4, 5)  # recall of best-regressed samples at N, 2N, ...
HISTOGRAMS = ("best_regressed", "high_confidence", "unmatched")
BINS, SHOWN_BINS = 1000, 50


@dataclass(frozen=True)
class _Samples:
    """One layer's samples of one image, most confident first."""

    confidence: np.ndarray  # (N,), the highest class score
    iou: np.ndarray  # (N, G)
    query: np.ndarray  # (M,) matched samples and
    target: np.ndarray  # (M,) their objects


class AlignmentMeter:
    """Running sums over images; memory depends on classes and layers only.

    ``sums`` is the whole state; adding them merges the meters of several processes. Exact: recall,
    Pearson, means, rank correlation within an image, histograms. Binned: Spearman over all images
    (confidence and IoU in steps of 1/1000), oLRP (thresholds in steps of 1/1000).

    A sample's confidence is its highest class score. Samples are matched by Hungarian matching with
    the cost of Deformable DETR (focal 2, L1 5, GIoU 2), so that detectors compare however they were
    trained. Crowds are no objects.
    """

    def __init__(self, classes: int, layers: int, definitions: Definitions | None = None) -> None:
        self.definitions = definitions or Definitions()
        self.classes = classes
        self._matcher = HungarianMatcher(2, 5, 2)
        groups, counts = classes + len(SIZES), len(MULTIPLES)
        shapes = {
            "matched": (groups, 6),  # moments of (confidence, IoU)
            "density": (BINS, BINS),
            "unmatched": (3,),  # count, confidence, IoU
            "rank_correlation": (2,),  # images, sum
            "br_objects": (groups,),
            "br_hits": (groups, counts),
            "br_images": (1 + counts,),  # images, sums of recalls
            "histograms": (len(HISTOGRAMS), SHOWN_BINS),
            "lrp": (classes, STEPS + 1, 3),
        }
        self.sums = {name: np.zeros((layers, *shape)) for name, shape in shapes.items()}
        self.sums |= {"images": np.zeros(()), "objects": np.zeros(groups)}

    def merge(self, other: AlignmentMeter) -> None:
        """Add the sums of another meter with the same classes, layers and definitions."""
        for name, value in other.sums.items():
            self.sums[name] += value

    def update(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        truth: Truth,
        detections: list[tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        """Add one image.

        Args:
            boxes: (L, N, 4).
            scores: (L, N, K).
            truth: the image's objects.
            detections: of each layer, for oLRP: boxes (D, 4), scores (D,) and labels (D,). None:
                each sample is a detection of its best class.
        """
        scores = np.nan_to_num(np.asarray(scores, np.float64)).clip(0, 1)  # a diverged model
        boxes = np.asarray(boxes, np.float64)
        confidence = scores.max(-1, initial=0)
        order = np.argsort(-confidence, 1, kind="stable")
        confidence = np.take_along_axis(confidence, order, 1)
        boxes, scores = (np.take_along_axis(x, order[..., None], 1) for x in (boxes, scores))
        labels = scores.argmax(-1)
        groups = np.stack([truth.labels, self.classes + np.digitize(truth.areas, SIZE_LIMITS)])
        self.sums["images"] += 1
        np.add.at(self.sums["objects"], groups, 1)
        matches = self._match(boxes, scores, truth)
        for layer, (query, target) in enumerate(matches):
            iou = pairwise_iou(boxes[layer], truth.boxes)
            samples = _Samples(confidence[layer], iou, query, target)
            one_per_sample = boxes[layer], confidence[layer], labels[layer]
            self._count_lrp(layer, *(detections[layer] if detections else one_per_sample), truth)
            if len(truth.labels) and len(iou):
                self._add_matches(layer, samples, groups)
                self._add_best_regressed(layer, samples, groups)
                self._add_rank_correlation(layer, samples)

    def _match(self, boxes: np.ndarray, scores: np.ndarray, truth: Truth) -> list[tuple]:
        """Return the matched queries (M,) and objects (M,) of each layer."""
        height, width = truth.size
        size = torch.tensor([width, height] * 2)
        logits = torch.from_numpy(scores).clamp(1e-6, 1 - 1e-6).logit()
        predicted = box_xyxy_to_cxcywh(torch.from_numpy(boxes) / size).nan_to_num()
        gt = box_xyxy_to_cxcywh(torch.from_numpy(truth.boxes) / size).float()
        targets = [{"labels": torch.from_numpy(truth.labels), "boxes": gt}]
        matches = self._matcher.match(logits[:, None], predicted[:, None], targets)
        layers, query, target = (x.numpy() for x in (matches.layer, matches.query, matches.target))
        return [(query[layers == i], target[layers == i]) for i in range(len(boxes))]

    def _add_matches(self, layer: int, samples: _Samples, groups: np.ndarray) -> None:
        confidence, query, target = samples.confidence, samples.query, samples.target
        iou = samples.iou[query, target]
        for group in groups:
            np.add.at(self.sums["matched"][layer], group[target], moments(confidence[query], iou))
        cell = bin_of(confidence[query], BINS), bin_of(iou, BINS)
        np.add.at(self.sums["density"][layer], cell, 1)
        others = np.ones(len(confidence), bool)
        others[query] = False
        nearest = samples.iou[others].max(-1)
        self.sums["unmatched"][layer] += len(nearest), confidence[others].sum(), nearest.sum()
        self._add_histogram(layer, "unmatched", nearest)

    def _add_histogram(self, layer: int, name: str, iou: np.ndarray) -> None:
        counts = np.bincount(bin_of(iou, SHOWN_BINS), minlength=SHOWN_BINS)
        self.sums["histograms"][layer, HISTOGRAMS.index(name)] += counts

    def _add_best_regressed(self, layer: int, samples: _Samples, groups: np.ndarray) -> None:
        count = samples.iou.shape[1]
        self._add_histogram(layer, "high_confidence", samples.iou[:count].max(-1))
        best, objects = best_regressed(samples.iou, self.definitions.min_iou)
        if not len(best):
            return
        self._add_histogram(layer, "best_regressed", samples.iou[best, objects])
        hits = best[:, None] < count * np.array(MULTIPLES)  # samples stand in order of confidence
        for group in groups[:, objects]:
            np.add.at(self.sums["br_objects"][layer], group, 1)
            np.add.at(self.sums["br_hits"][layer], group, hits)
        self.sums["br_images"][layer] += 1, *hits.mean(0)

    def _add_rank_correlation(self, layer: int, samples: _Samples) -> None:
        nearest = samples.iou.max(-1)
        candidates = nearest >= self.definitions.candidate_iou
        value = spearman(samples.confidence[candidates], nearest[candidates])
        if not np.isnan(value):
            self.sums["rank_correlation"][layer] += 1, value

    def _count_lrp(
        self, layer: int, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, truth: Truth
    ) -> None:
        scores = np.nan_to_num(scores.astype(np.float64)).clip(0, 1)
        order = np.argsort(-scores, kind="stable")
        boxes, scores, labels = boxes[order], scores[order], labels[order]
        same = labels[:, None] == truth.crowd_labels
        inside = pairwise_iou(boxes, truth.crowd_boxes, over_first=True) >= IOU
        iou = pairwise_iou(boxes, truth.boxes)
        lrp = self.sums["lrp"][layer]
        count_detections(lrp, scores, labels, iou, truth.labels, (same & inside).any(-1))
