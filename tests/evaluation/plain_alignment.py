"""Alignment statistics in plain loops over lists, for comparison."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import pearsonr, spearmanr


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def giou(a, b):
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    union = areas / (1 + iou(a, b))
    return iou(a, b) - (hull - union) / hull


def matching(boxes, scores, gt, labels, size):
    """[(sample, object)] of least cost: 2 focal + 5 L1 of normalised cxcywh - 2 GIoU."""

    def centred(box):
        x0, y0, x1, y1 = np.array(box) / [size[1], size[0], size[1], size[0]]
        return np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0])

    cost = np.zeros((len(boxes), len(gt)))
    for n in range(len(boxes)):
        for g in range(len(gt)):
            p = min(max(scores[n][labels[g]], 1e-6), 1 - 1e-6)
            focal = -0.25 * (1 - p) ** 2 * np.log(p) + 0.75 * p**2 * np.log(1 - p)
            l1 = np.abs(centred(boxes[n]) - centred(gt[g])).sum()
            cost[n, g] = 2 * focal + 5 * l1 - 2 * giou(boxes[n], gt[g])
    return list(zip(*linear_sum_assignment(cost), strict=True))


def measure(images, candidate_iou=0.5):
    """The statistics of one layer by name; images: (boxes, scores (N, K), gt, labels, size)."""
    matched, unmatched, ranks, recalls, best, confident = [], [], [], {}, [], []
    for boxes, scores, gt, labels, size in images:
        if not len(gt):
            continue
        table = np.array([[iou(b, g) for g in gt] for b in boxes])
        confidence = np.array([max(row) for row in scores])
        pairs = matching(boxes, scores, gt, labels, size)
        matched += [(confidence[n], table[n, g]) for n, g in pairs]
        others = set(range(len(boxes))) - {n for n, _ in pairs}
        unmatched += [(confidence[n], table[n].max()) for n in others]
        close = [n for n in range(len(boxes)) if table[n].max() >= candidate_iou]
        if len({confidence[n] for n in close}) > 1:
            ranks.append(spearmanr(confidence[close], table[close].max(1))[0])
        order = sorted(range(len(boxes)), key=lambda n: -confidence[n])
        chosen = [int(table[:, g].argmax()) for g in range(len(gt))]
        best += [table[n, g] for g, n in enumerate(chosen)]
        confident += [table[n].max() for n in order[: len(gt)]]
        for k in range(1, 6):
            hits = [n in order[: k * len(gt)] for n in chosen]
            recalls.setdefault(k, []).append(np.mean(hits))
    x, y = np.array(matched).T
    return {
        "pearson": pearsonr(x, y)[0],
        "spearman": spearmanr(x, y)[0],
        "rank_correlation": np.mean(ranks),
        "matched_confidence": x.mean(),
        "matched_iou": y.mean(),
        "unmatched_confidence": np.mean(unmatched, 0)[0],
        "unmatched_iou": np.mean(unmatched, 0)[1],
        "br_recall": {str(k): 100 * np.mean(v) for k, v in recalls.items()},
        "histograms": {
            "best_regressed": best,
            "high_confidence": confident,
            "unmatched": [value for _, value in unmatched],
        },
        "matched": matched,
    }


def lrp(found, objects, threshold):
    """LRP of one class at a score threshold and its parts (Oksuz et al. 2021, eq. 2).

    found: per image [(score, box)], objects: per image [box].
    """
    tp = fp = fn = 0
    error = 0.0
    for image_found, image_objects in zip(found, objects, strict=True):
        free = list(image_objects)
        for score, box in sorted(image_found, key=lambda pair: -pair[0]):
            if score < threshold:
                continue
            overlaps = [iou(box, other) for other in free]
            if overlaps and max(overlaps) >= 0.5:
                tp += 1
                error += 1 - max(overlaps)
                free.pop(int(np.argmax(overlaps)))
            else:
                fp += 1
        fn += len(free)
    total = (error / 0.5 + fp + fn) / (tp + fp + fn)
    parts = error / tp if tp else np.nan, fp / (tp + fp) if tp + fp else np.nan, fn / (tp + fn)
    return total, *parts
