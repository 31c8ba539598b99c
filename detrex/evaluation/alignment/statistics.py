"""Statistics that can be added up image by image: sums and histograms in, coefficients out."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def moments(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What :func:`pearson` needs of pairs (M,): (M, 6) terms whose sums may be added up."""
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], -1)


def pearson(sums: np.ndarray) -> np.ndarray:
    """Pearson's coefficient (...) from summed :func:`moments` (..., 6); NaN where a side is
    constant or less than two pairs were seen. Exact."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
    defined = spread > 1e-18 * n**4  # below that it is rounding
    return np.where(defined, (n * xy - x * y) / np.sqrt(np.where(defined, spread, 1)), np.nan)


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation of pairs (M,); NaN where a side is constant."""
    return float(pearson(moments(rankdata(x), rankdata(y)).sum(0)))


def spearman_of_histogram(counts: np.ndarray) -> float:
    """Spearman's coefficient of pairs that were counted in a 2-d histogram.

    Values of one bin count as equal (tied ranks), which is the only approximation.
    """
    ranks = [np.cumsum(m) - (m - 1) / 2 for m in (counts.sum(1), counts.sum(0))]
    return float(_weighted_correlation(counts, *ranks))


def _weighted_correlation(weights: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float:
    total = weights.sum()
    if total < 2:
        return np.nan
    sides = weights.sum(1), weights.sum(0)
    values = (rows, columns)
    centred = [v - (v * m).sum() / total for v, m in zip(values, sides, strict=True)]
    spread = np.prod([(v * v * m).sum() for v, m in zip(centred, sides, strict=True)])
    return centred[0] @ weights @ centred[1] / np.sqrt(spread) if spread > 0 else np.nan


def bin_of(values: np.ndarray, bins: int) -> np.ndarray:
    """The bin of values in [0, 1]; 1 belongs to the last one."""
    return np.minimum((values * bins).astype(np.int64), bins - 1)


def rebin(counts: np.ndarray, bins: int) -> np.ndarray:
    """A square 2-d histogram with fewer bins, which must divide their number."""
    factor = len(counts) // bins
    return counts.reshape(bins, factor, bins, factor).sum((1, 3))
