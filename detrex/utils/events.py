"""A training run's numbers, and their line in the log."""

from __future__ import annotations

import datetime
import logging
import re
from collections import defaultdict
from functools import partial

from detectron2.utils.events import EventStorage, EventWriter, get_event_storage
from fvcore.common.history_buffer import HistoryBuffer

from detrex.utils.device import peak_memory
from detrex.utils.progress import Bar

logger = logging.getLogger(__name__)
# Losses of the last layer's primary queries; the others are only in the metrics files.
_MAIN_LOSS = re.compile(r"total_loss|loss_[a-z]+")


class BoundedStorage(EventStorage):
    """An event storage with the last ``length`` values of each scalar only, so that a run of weeks
    does not fill the memory. Writers look back over 1,000 values at most."""

    def __init__(self, start_iter: int = 0, length: int = 1000) -> None:
        super().__init__(start_iter)
        self._history = defaultdict(partial(HistoryBuffer, length))


class ConsoleWriter(EventWriter):
    """One line per period: progress, time left, the main losses, learning rate, speed.

    Args:
        max_iter: length of the run.
        bar: of ``terminal_bar``, which shows the same.
    """

    def __init__(self, max_iter: int, bar: Bar | None = None) -> None:
        self.max_iter, self.bar = max_iter, bar

    def write(self) -> None:
        """Log the line, unless the losses of this iteration have not been read."""
        storage = get_event_storage()
        latest = {name: value for name, (value, _) in storage.latest().items()}
        if storage.latest().get("total_loss", (0, -1))[1] != storage.iter:
            return
        losses = [f"{k} {v:.4g}" for k, v in latest.items() if _MAIN_LOSS.fullmatch(k)]
        fields = [self._time_left(storage), *losses]
        fields += [f"lr {latest['lr']:.3g}"] if "lr" in latest else []
        fields += [f"{latest['time']:.3f} s/it"] if "time" in latest else []
        fields += [f"data {latest['data_time']:.3f} s"]
        if (memory := peak_memory()) is not None:
            fields.append(f"max_mem {memory:.0f}M")
        text, done = "  ".join(filter(None, fields)), storage.iter + 1
        logger.info("iter %d/%d  %s", done, self.max_iter, text)
        if self.bar:
            self.bar(done, self.max_iter, text)

    def _time_left(self, storage: EventStorage) -> str:
        try:
            seconds = storage.history("time").median(1000) * (self.max_iter - storage.iter - 1)
        except KeyError:  # the first iterations are not timed
            return ""
        return f"eta {datetime.timedelta(seconds=int(seconds))}"
