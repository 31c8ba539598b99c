"""Losses over time and processes, without a collective in every iteration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean

from detectron2.utils import comm
from detectron2.utils.events import EventStorage


class MetricsWindow:
    """Collects each iteration's numbers and reports their mean over iterations and processes."""

    def __init__(self) -> None:
        self._numbers: list[dict[str, float]] = []

    def add(self, numbers: Mapping[str, float]) -> None:
        """Note one iteration's numbers."""
        self._numbers.append(dict(numbers))

    def flush(self, storage: EventStorage) -> None:
        """Store the means and start anew. Every process must call this in the same iterations."""
        gathered = comm.gather(mean_by_name(self._numbers))
        self._numbers.clear()
        if comm.is_main_process():
            storage.put_scalars(smoothing_hint=False, **mean_by_name(gathered))


def mean_by_name(numbers: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every name over the dicts that have it."""
    values = defaultdict(list)
    for entry in numbers:
        for name, value in entry.items():
            values[name].append(value)
    return {name: fmean(entries) for name, entries in values.items()}
