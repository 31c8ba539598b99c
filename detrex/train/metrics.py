"""Mean losses over iterations and processes, read from the device and gathered once per period."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor

from detrex.utils.small_files import is_a


@dataclass(frozen=True)
class StepNumbers:
    """The losses of one optimizer step and its gradient norm, on the model's device.

    Attributes:
        names: for each forward pass, the names of its losses and of the criterion's figures.
        values: (n,) the numbers of all passes in that order, then the gradient norm.
    """

    names: Sequence[Sequence[str]]
    values: Tensor

    def by_pass(self, values: Iterable[float]) -> list[dict[str, float]]:
        """Return each pass's losses by name, and the norm as "grad_norm", from the numbers in
        ``self.values``."""
        *losses, norm = values
        remaining = iter(losses)
        named = [{name: next(remaining) for name in names} for names in self.names]
        return [{**losses, "grad_norm": norm} for losses in named]


class MetricsWindow:
    """Collects each iteration's numbers and reports their mean over iterations and processes."""

    def __init__(self) -> None:
        self._steps: list[tuple[StepNumbers, float]] = []
        self._restored: list[dict[str, float]] = []

    def add(self, numbers: StepNumbers, data_time: float) -> None:
        """Add one iteration's numbers, unread, and the seconds it waited for data."""
        self._steps.append((numbers, data_time))

    def flush(self, storage: EventStorage) -> None:
        """Store the means and start anew; every process must call this in the same iterations."""
        gathered = comm.gather(mean_by_name(self._read()))
        self._steps.clear()
        self._restored.clear()
        if comm.is_main_process():
            storage.put_scalars(smoothing_hint=False, **mean_by_name(gathered))

    def state(self) -> list[list[dict[str, float]]]:
        """Return what each process has collected so far; every process must call this."""
        return comm.all_gather([*self._read()])

    def load_state(self, state: Sequence[list[dict[str, float]]]) -> None:
        """Continue from ``state``; it is dropped if the number of processes has changed.

        Raises:
            TypeError: the state is damaged.
        """
        entries = [entry for process in state for entry in process]
        if not is_a(entries, list[dict[str, float]]):
            raise TypeError("metrics are not numbers by name")
        if len(state) == comm.get_world_size():
            self._restored = list(state[comm.get_rank()])

    def _read(self) -> Iterator[dict[str, float]]:
        """Yield each iteration's numbers by name."""
        yield from self._restored
        if not self._steps:
            return
        values = torch.cat([numbers.values for numbers, _ in self._steps]).tolist()  # one copy
        for numbers, data_time in self._steps:
            count = len(numbers.values)
            yield {**mean_by_name(numbers.by_pass(values[:count])), "data_time": data_time}
            values = values[count:]


def mean_by_name(numbers: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every name over the dicts that have it."""
    values = defaultdict(list)
    for entry in numbers:
        for name, value in entry.items():
            values[name].append(value)
    return {name: fmean(entries) for name, entries in values.items()}
