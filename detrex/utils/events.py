"""Writers of a training run's numbers: the log and Weights & Biases."""

from __future__ import annotations

import datetime
import logging
import re
from collections import defaultdict
from functools import partial
from importlib.util import find_spec

from detectron2.utils.events import EventStorage, EventWriter, get_event_storage
from fvcore.common.history_buffer import HistoryBuffer
from omegaconf import DictConfig, OmegaConf

from detrex.utils.device import peak_memory

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
    """

    def __init__(self, max_iter: int) -> None:
        self.max_iter = max_iter

    def write(self) -> None:
        """Log the line, unless the losses of this iteration have not been read."""
        storage = get_event_storage()
        latest = {name: value for name, (value, _) in storage.latest().items()}
        if storage.latest().get("total_loss", (0, -1))[1] != storage.iter:
            return
        losses = [f"{k} {v:.4g}" for k, v in latest.items() if _MAIN_LOSS.fullmatch(k)]
        fields = [f"iter {storage.iter + 1}/{self.max_iter}", self._time_left(storage), *losses]
        fields += [f"lr {latest['lr']:.3g}"] if "lr" in latest else []
        fields += [f"{latest['time']:.3f} s/it"] if "time" in latest else []
        fields += [f"data {latest['data_time']:.3f} s"]
        if (memory := peak_memory()) is not None:
            fields.append(f"max_mem {memory:.0f}M")
        logger.info("  ".join(filter(None, fields)))

    def _time_left(self, storage: EventStorage) -> str:
        try:
            seconds = storage.history("time").median(1000) * (self.max_iter - storage.iter - 1)
        except KeyError:  # the first iterations are not timed
            return ""
        return f"eta {datetime.timedelta(seconds=int(seconds))}"


class WandbWriter(EventWriter):
    """Send every scalar to Weights & Biases.

    Args:
        cfg: the run's config; ``cfg.train`` is stored, ``cfg.train.wandb.params`` name the run.
    """

    def __init__(self, cfg: DictConfig) -> None:
        import wandb

        self._last_write = -1
        settings = OmegaConf.to_container(cfg.train, resolve=True)
        self._run = wandb.init(config=settings, **settings["wandb"]["params"])

    def write(self) -> None:
        """Send the scalars that are new since the last call."""
        latest = get_event_storage().latest_with_smoothing_hint()
        new = {name: (v, step) for name, (v, step) in latest.items() if step > self._last_write}
        if not new:
            return
        self._last_write = max(step for _, step in new.values())
        self._run.log({name: value for name, (value, _) in new.items()}, step=self._last_write)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


def wandb_installed() -> bool:
    """Whether the package is installed."""
    return find_spec("wandb") is not None
