"""Programs that record the numbers of runs: Weights & Biases, MLflow, ClearML."""

from __future__ import annotations

import logging
import re

from detectron2.utils.events import EventWriter, get_event_storage
from omegaconf import DictConfig, OmegaConf

from detrex.utils.errors import InputError
from detrex.utils.text import first_line

logger = logging.getLogger(__name__)


class Tracker(EventWriter):
    """Sends every scalar that is new since the last call; a subclass says how.

    A subclass is enabled by ``train.<name>.enabled`` and takes ``train.<name>.params``, whose
    meaning is its own. Numbers that cannot be sent are left out with a warning: the run's folder
    has them.

    Args:
        cfg: the run's config, whose ``train`` is sent, too.

    Attributes:
        name: of the package, and of the keys.

    Raises:
        InputError: the program cannot be reached, or refuses the arguments.
    """

    name = ""

    def __init__(self, cfg: DictConfig) -> None:
        self._last_write = -1
        settings = OmegaConf.to_container(cfg.train, resolve=True)
        try:
            self.start(settings, settings[self.name]["params"])
        except Exception as error:  # of any type: a server, a login, an argument
            text = f"{type(error).__name__}: {first_line(error)}"
            raise InputError(f"train.{self.name} cannot be started: {text}") from error

    def start(self, settings: dict, params: dict) -> None:
        """Begin a record with the settings of ``train``."""
        raise NotImplementedError

    def send(self, values: dict[str, float], step: int) -> None:
        """Record numbers by name."""
        raise NotImplementedError

    def finish(self) -> None:
        """End the record."""
        raise NotImplementedError

    def write(self) -> None:
        """Send the scalars that are new since the last call."""
        latest = get_event_storage().latest_with_smoothing_hint()
        new = {name: (v, step) for name, (v, step) in latest.items() if step > self._last_write}
        if new:
            self._last_write = max(step for _, step in new.values())
            self._try(self.send, {name: v for name, (v, _) in new.items()}, self._last_write)

    def close(self) -> None:
        """End the record."""
        self._try(self.finish)

    def _try(self, function: object, *arguments: object) -> None:
        try:
            function(*arguments)
        except Exception as error:  # of any type; the run is worth more than its copy elsewhere
            logger.warning("train.%s: %s: the run goes on", self.name, first_line(error))


class WandbWriter(Tracker):
    """Weights & Biases; ``params`` are arguments of wandb.init."""

    name = "wandb"

    def start(self, settings: dict, params: dict) -> None:
        import wandb

        self._run = wandb.init(config=settings, **params)

    def send(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def finish(self) -> None:
        self._run.finish()


class MlflowWriter(Tracker):
    """MLflow; ``params`` are arguments of mlflow.start_run. Server and experiment are those of
    MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME."""

    name = "mlflow"

    def start(self, settings: dict, params: dict) -> None:
        import mlflow

        self._mlflow = mlflow
        mlflow.start_run(**params)
        mlflow.log_params({key: str(value)[:500] for key, value in settings.items()})

    def send(self, values: dict[str, float], step: int) -> None:
        # It refuses names with other characters, as classes may have.
        named = {re.sub(r"[^\w\-. /]", "_", name): value for name, value in values.items()}
        self._mlflow.log_metrics(named, step=step)

    def finish(self) -> None:
        self._mlflow.end_run()


class ClearmlWriter(Tracker):
    """ClearML; ``params`` are arguments of clearml.Task.init."""

    name = "clearml"

    def start(self, settings: dict, params: dict) -> None:
        import clearml

        self._task = clearml.Task.init(**params)
        self._task.connect(settings, name="train")

    def send(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            title, _, series = name.rpartition("/")
            self._task.get_logger().report_scalar(title or name, series, value, step)

    def finish(self) -> None:
        self._task.close()


TRACKERS = {tracker.name: tracker for tracker in (WandbWriter, MlflowWriter, ClearmlWriter)}


def enabled_trackers(cfg: DictConfig) -> list[type[Tracker]]:
    """The trackers that the config asks for."""
    return [tracker for name, tracker in TRACKERS.items() if cfg.train[name].enabled]
