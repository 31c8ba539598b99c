"""Grids of scores, on which everything is counted.

A threshold t keeps the detections with a score of t or more.
"""

from __future__ import annotations

import numpy as np

STEPS = 1000
SCORE_STEPS = np.arange(STEPS + 1) / STEPS  # thresholds of precision and recall
CELLS = 100
SCORE_CELLS = np.arange(CELLS) / CELLS  # the finest bins of calibration
BINS = 25  # of a reliability diagram and of calibration errors
THRESHOLDS = np.arange(1, 20) / 20  # at which duplicates are shown: 0.05, 0.1 ... 0.95
CONFUSION_THRESHOLDS = np.array([0.1, 0.3, 0.5, 0.7])


def step_of(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the index of the highest threshold that each score reaches, -1 for none."""
    return np.searchsorted(thresholds, scores, side="right") - 1


def reaching(counts: np.ndarray, axis: int) -> np.ndarray:
    """Return how many reach each threshold, from how many have it as their highest."""
    return np.flip(np.flip(counts, axis).cumsum(axis), axis)
