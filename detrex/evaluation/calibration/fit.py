"""Fitting maps of scores on detections of held-out images.

Legend: D detections, K classes.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import isotonic_regression, minimize

from detrex.utils.errors import InputError

from .maps import KINDS, SLOPE, ScoreMaps, logits
from .reliability import ERRORS, calibration_errors, mean_over_classes
from .samples import Samples, bins_of_samples

LEAST = 50  # detections that a fit needs
FOLDS = 5


def fit(
    samples: Samples, classes: int, kind: str, target: str = "precision", per_class: bool = False
) -> tuple[ScoreMaps, list[int]]:
    """Return maps, and the classes that have the common one for want of data.

    Args:
        samples: of held-out images, not of those the detector was trained on.
        classes: number of classes.
        kind: "temperature", "platt" or "isotonic".
        target: "precision" or "iou", see :class:`ScoreMaps`.
        per_class: fit a map for each class that has 50 detections and a right one among them.

    Raises:
        InputError: fewer than 50 detections, or none of them right.
    """
    _check(samples, "not enough data")
    common = fit_map(kind, samples.scores, samples.target(target))
    maps, without = [], []
    for label in range(classes):
        mine = samples.where(samples.labels == label) if per_class else samples
        enough = _is_enough(mine)
        if not enough:
            without.append(label)
        fitted = per_class and enough
        maps.append(fit_map(kind, mine.scores, mine.target(target)) if fitted else common)
    return ScoreMaps(kind, target, maps), without


def _check(samples: Samples, fault: str) -> None:
    if not _is_enough(samples):
        raise InputError(
            f"{fault}: {len(samples.scores)} detections, {int(samples.right.sum())} of them right: "
            f"calibration needs {LEAST} detections, right and wrong ones"
        )


def _is_enough(samples: Samples) -> bool:
    return len(samples.scores) >= LEAST and 0 < samples.right.sum() < len(samples.right)


def fit_map(kind: str, scores: np.ndarray, targets: np.ndarray) -> list[float]:
    """Return a map's parameters (:class:`ScoreMaps`) for scores (D,) that shall be targets (D,).

    Temperature (Guo et al. 2017) and Platt's two numbers are those of the lowest cross-entropy, the
    isotonic map that of the lowest squared error (Zadrozny and Elkan 2002).
    """
    if kind == "isotonic":
        return _fit_isotonic(scores, targets)
    x = logits(scores)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, shift = np.exp(parameters[0]), parameters[1:].sum()
        z = slope * x + shift
        error = 1 / (1 + np.exp(-z)) - targets
        gradient = np.array([slope * (error * x).mean(), error.mean()])
        value = float((np.logaddexp(0, z) - targets * z).mean())
        return value, gradient[: len(parameters)]

    start = np.zeros(KINDS.index(kind) + 1)
    best = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[(-5, 5), (-20, 20)][: len(start)]
    )
    slope = float(np.exp(best.x[0]))
    return [1 / slope] if kind == "temperature" else [slope, float(best.x[1])]


def _fit_isotonic(scores: np.ndarray, targets: np.ndarray) -> list[float]:
    """Return points at the middle of each step, so that the map rises between them."""
    order = np.argsort(scores, kind="stable")
    unique, first, counts = np.unique(scores[order], return_index=True, return_counts=True)
    means = np.add.reduceat(targets[order], first) / counts
    steps = isotonic_regression(means, weights=counts)
    edges = steps.blocks[:-1]
    weights = np.add.reduceat(counts, edges)
    x = np.add.reduceat(unique * counts, edges) / weights
    y = steps.x[edges]
    x = np.concatenate([[min(0.0, x[0] - 1e-3)], x, [max(1.0, x[-1] + 1e-3)]])
    y = np.concatenate([[0.0 if x[1] > 0 else y[0]], y, [y[-1]]])
    y = (1 - SLOPE) * y + SLOPE * np.clip(x, 0, 1)
    rising = np.concatenate([[True], (np.diff(x) > 1e-9) & (np.diff(y) > 0)])
    return [*x[rising].tolist(), *y[rising].tolist()]


def cross_validate(
    samples: Samples, classes: int, kind: str, target: str, per_class: bool
) -> dict[str, tuple[float, float]]:
    """Return each calibration error before and after, on images that the map was not fitted on.

    Images are dealt to five folds; each fold's scores go through the map of the other four.

    Raises:
        InputError: all detections, or those of four folds, are not enough.
    """
    _check(samples, "not enough data")
    fold = samples.images % FOLDS
    after = samples.scores.copy()
    for k in range(FOLDS):
        others = samples.where(fold != k)
        _check(others, f"not enough data on the images besides each {FOLDS}th one")
        maps, _ = fit(others, classes, kind, target, per_class)
        held_out = fold == k
        after[held_out] = maps.apply(samples.scores[held_out], samples.labels[held_out])
    pair = [errors_of(samples._replace(scores=x), classes) for x in (samples.scores, after)]
    return {name: (pair[0][name], pair[1][name]) for name in ERRORS}


def errors_of(samples: Samples, classes: int) -> dict[str, float]:
    """Return D-ECE of all detections, and LaECE0 and LaACE0 as means over the classes with any."""
    by_class = [
        calibration_errors(bins_of_samples(samples.where(samples.labels == k)))
        for k in range(classes)
    ]
    everyone = np.ones(classes, bool)
    means = {
        name: float(mean_over_classes(np.array([errors[name] for errors in by_class]), everyone))
        for name in ERRORS[1:]
    }
    return {ERRORS[0]: float(calibration_errors(bins_of_samples(samples))[ERRORS[0]]), **means}
