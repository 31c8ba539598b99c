"""Losses over time and processes: no wait for the device and no collective in every iteration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor

from detrex.utils.small_files import is_a


@dataclass(frozen=True)
class StepNumbers:
    """The losses of one optimizer step and its gradient norm, where they were computed.

    Attributes:
        names: of the losses of each forward pass.
        values: (n,) the losses of all passes in that order, then the norm.
    """

    names: Sequence[Sequence[str]]
    values: Tensor

    def by_pass(self, values: Iterable[float]) -> list[dict[str, float]]:
        """Name ``self.values``, given as numbers; every pass gets the norm as "grad_norm"."""
        *losses, norm = values
        remaining = iter(losses)
        named = [{name: next(remaining) for name in names} for names in self.names]
        return [{**losses, "grad_norm": norm} for losses in named]


class MetricsWindow:
    """Collects each iteration's numbers and reports their mean over iterations and processes."""

    def __init__(self) -> None:
        self._steps: list[tuple[StepNumbers, dict[str, float]]] = []
        self._restored: list[dict[str, float]] = []

    def add(self, numbers: StepNumbers, **others: float) -> None:
        """Note one iteration's numbers; nothing is read from the device."""
        self._steps.append((numbers, others))

    def flush(self, storage: EventStorage) -> None:
        """Store the means and start anew. Every process must call this in the same iterations."""
        gathered = comm.gather(mean_by_name(self._read()))
        self._steps.clear()
        self._restored.clear()
        if comm.is_main_process():
            storage.put_scalars(smoothing_hint=False, **mean_by_name(gathered))

    def state(self) -> list[list[dict[str, float]]]:
        """What is collected so far, of each process; every process must call this."""
        return comm.all_gather([*self._read()])

    def load_state(self, state: Sequence[list[dict[str, float]]]) -> None:
        """Go on from ``state``; with another number of processes, without it.

        Raises:
            TypeError: it is none.
        """
        entries = [entry for process in state for entry in process]
        if not is_a(entries, list[dict[str, float]]):
            raise TypeError("metrics are not numbers by name")
        if len(state) == comm.get_world_size():
            self._restored = list(state[comm.get_rank()])

    def _read(self) -> Iterable[dict[str, float]]:
        yield from self._restored
        if not self._steps:
            return
        values = torch.cat([numbers.values for numbers, _ in self._steps]).tolist()  # one copy
        for numbers, others in self._steps:
            count = len(numbers.values)
            yield {**mean_by_name(numbers.by_pass(values[:count])), **others}
            values = values[count:]


def mean_by_name(numbers: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every name over the dicts that have it."""
    values = defaultdict(list)
    for entry in numbers:
        for name, value in entry.items():
            values[name].append(value)
    return {name: fmean(entries) for name, entries in values.items()}
