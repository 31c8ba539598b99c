"""Whether another runtime gives a detector's scores, order and boxes.

Legend: D detections of an image, best first; boxes are x0, y0, x1, y1 in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from tabulate import tabulate

from detrex.data.sample.files import load_digit_scans, load_photographs
from detrex.data.sample.scene import compose

from .runtimes import Outputs, Runtime

TOLERANCE = 1e-3
SIDES = (256, 320, 400, 512)  # of the images to compare on, where the user names none


class Agreement(NamedTuple):
    """How far the detections of some images are from PyTorch's.

    Attributes:
        detections: number that was compared.
        score: largest difference of scores, in [0, 1].
        box: largest difference of a coordinate, in parts of the image's longer side.
        labels: number with another class.
        order: pairs in another order although PyTorch's scores are more than ``TOLERANCE`` apart.
        tau: Kendall's, of all pairs of detections of an image (least over the images).
    """

    detections: int
    score: float
    box: float
    labels: int
    order: int
    tau: float

    @property
    def holds(self) -> bool:
        """Whether scores and boxes are within ``TOLERANCE``, classes equal and the order kept."""
        return max(self.score, self.box) <= TOLERANCE and not (self.labels or self.order)


def agreement(expected: Outputs, actual: Outputs, size: int) -> Agreement:
    """Compare the first image's detections; ``size`` is its longer side in pixels.

    Every detection is compared with the one that is nearest in class, box and score, one to one.
    Those of PyTorch within ``TOLERANCE`` of its lowest score are left out: others may have
    taken their place among the D that are returned.
    """
    one, other = (Outputs(*(x[0] for x in outputs)) for outputs in (expected, actual))
    labels = one.labels[:, None] != other.labels
    boxes = np.abs(one.boxes[:, None] - other.boxes).max(-1) / size  # (D, D)
    scores = np.abs(one.scores[:, None] - other.scores)
    pairs = linear_sum_assignment(np.nan_to_num(labels + boxes + scores, nan=3.0))
    stays = one.scores > one.scores.min() + TOLERANCE
    pairs = tuple(index[stays] for index in pairs)
    if not stays.any():
        return Agreement(0, 0.0, 0.0, 0, 0, 1.0)
    ours, its = one.scores[pairs[0]], other.scores[pairs[1]]
    before, after = (x[:, None] - x for x in (ours, its))
    swapped = (before > TOLERANCE) & (after < 0)
    ordered = np.sign(before) * np.sign(after)
    total = max(1, np.abs(np.sign(before)).sum())
    return Agreement(
        int(stays.sum()),
        float(scores[pairs].max()),
        float(boxes[pairs].max()),
        int(labels[pairs].sum()),
        int(swapped.sum()),
        float(ordered.sum() / total),
    )


def over_images(expected: Runtime, actual: Runtime, images: Iterable[np.ndarray]) -> Agreement:
    """The worst of the images (3, H, W) uint8, their detections and pairs counted together."""
    rows = [agreement(expected(x), actual(x), max(x.shape[1:])) for x in images]
    columns = zip(*rows, strict=True)
    merge = (sum, max, max, sum, sum, min)
    return Agreement(*(f(column) for f, column in zip(merge, columns, strict=True)))


def agreement_table(rows: Mapping[str, Agreement]) -> str:
    """A line for each runtime."""
    head = ("", "detections", "scores", "boxes", "classes", "pairs out of order", "Kendall's tau")
    head = (*head, f"within {TOLERANCE:g}")
    lines = [
        (name, x.detections, f"{x.score:.1e}", f"{x.box:.1e}", x.labels, x.order, f"{x.tau:.5f}")
        + ("yes" if x.holds else "NO",)
        for name, x in rows.items()
    ]
    return tabulate(lines, head, disable_numparse=True)


def sample_images() -> list[np.ndarray]:
    """Four pictures (H, W, 3) uint8 as the sample data has them, of ``SIDES``."""
    photographs, digits = load_photographs("val"), load_digit_scans("val")
    scenes = [compose(np.random.default_rng(side), photographs, digits, side) for side in SIDES]
    return [np.rint(scene.pixels * 255).astype(np.uint8) for scene in scenes]
