"""Does a score of 0.8 mean 0.8? Calibration errors and reliability, with intervals.

Legend: R bootstrap replicates; replicate 0 is the data as it is.
"""

from __future__ import annotations

import numpy as np

from detrex.utils.misc import ratio

from .meter import COUNT, DEVIATION, OVERLAP, PRECISION, SCORE
from .sums import BINS, CELLS, SCORE_CELLS

ERRORS = ("D-ECE", "LaECE0", "LaACE0")
LEAST_IMAGES = 10  # with fewer there is no interval


def cells_of_class(sums: dict[str, np.ndarray], k: int) -> np.ndarray:
    """Return a class's sums by score cell, (CELLS, 1 + R, MOMENTS)."""
    cells = slice(k * CELLS, (k + 1) * CELLS)
    return np.concatenate([sums["calibration"][cells, None], sums["bootstrap"][cells]], 1)


def bins_of(cells: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """Return sums by bin of the detections from a threshold on, (BINS, ...), from cells (CELLS,
    ...). The threshold is rounded down to 0.01."""
    below = SCORE_CELLS < np.floor(threshold * CELLS + 1e-6) / CELLS
    shown = np.where(below.reshape(-1, *[1] * (cells.ndim - 1)), 0, cells)
    return shown.reshape(BINS, CELLS // BINS, *cells.shape[1:]).sum(1)


def calibration_errors(bins: np.ndarray) -> dict[str, np.ndarray]:
    """Return errors in [0, 1] by the names in ERRORS, each (...), from bins (BINS, ..., MOMENTS).

    With N detections, n of them in a bin,

        D-ECE = sum over bins of n / N |mean score - share that is right at IoU 0.5|
        LaECE0 = sum over bins of n / N |mean score - sum of IoU / n|
        LaACE0 = mean of |score - IoU|

    where a detection that matches no object (COCO's matching, at any IoU above 0) has an IoU of 0.
    D-ECE is Kueppers et al.'s (2020) with the score as only dimension, the others are Kuzucu et
    al.'s (ECCV 2024) of one class. NaN without detections.
    """
    total = bins[..., COUNT].sum(0)
    gaps = [np.abs(bins[..., SCORE] - bins[..., column]).sum(0) for column in (PRECISION, OVERLAP)]
    errors = [*gaps, bins[..., DEVIATION].sum(0)]
    return {name: ratio(error, total) for name, error in zip(ERRORS, errors, strict=True)}


def mean_over_classes(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean (...) of values (K, ...) over the classes that count (K,) and are not NaN."""
    known = ~np.isnan(values) & counts.reshape(-1, *[1] * (values.ndim - 1))
    return ratio(np.where(known, values, 0).sum(0), known.sum(0))


def estimate(values: np.ndarray, images: float) -> np.ndarray:
    """Return (3, ...): the value of the data and the ends of its 95 % bootstrap interval.

    Args:
        values: (1 + R, ...).
        images: with fewer than ten the interval is NaN.
    """
    if len(values) == 1:
        images = 0  # no replicates
    ordered = np.sort(values[1:] if len(values) > 1 else values, axis=0)  # NaN last
    known = (~np.isnan(ordered)).sum(0)
    ends = [
        np.take_along_axis(ordered, np.rint(q * (known - 1)).clip(0).astype(int)[None], 0)[0]
        for q in (0.025, 0.975)
    ]
    defined = (images >= LEAST_IMAGES) & ~np.isnan(values[0])
    return np.stack([values[0], *(np.where(defined, end, np.nan) for end in ends)])


def reliability(bins: np.ndarray, images: float) -> dict[str, list[float]]:
    """Return what a reliability diagram shows, by bin of the score.

    "count", mean "score", share of right detections "precision" and mean "iou", the last two with
    "_low" and "_high" ends of their intervals. ``bins`` is (BINS, 1 + R, MOMENTS).
    """
    count = bins[..., COUNT].T
    columns = {"count": count[0], "score": ratio(bins[:, 0, SCORE], count[0])}
    for name, column in (("precision", PRECISION), ("iou", OVERLAP)):
        ends = estimate(ratio(bins[..., column].T, count), images)
        columns |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    return {name: column.tolist() for name, column in columns.items()}
