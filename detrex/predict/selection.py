"""Which of a model's detections are returned, and with which scores."""

from __future__ import annotations

import torch
from detectron2.structures import Instances

from detrex.evaluation.calibration.maps import ScoreMaps
from detrex.utils.errors import InputError


class Selection:
    """Keeps the confident detections of an image, best score first.

    Args:
        threshold: least score, from 0 to 1; "auto" for each class's best by LRP.
        maps: of the checkpoint; needed for "auto" and ``calibrated``.
        calibrated: return the scores that ``maps`` give. A number as threshold is then compared
            with these.

    Attributes:
        labels: of the classes that are returned, or None: of all.

    Raises:
        InputError: ``threshold`` is no number between 0 and 1, or ``maps`` lack what is asked for.
    """

    def __init__(
        self,
        threshold: float | str = 0.3,
        maps: ScoreMaps | None = None,
        calibrated: bool = False,
    ) -> None:
        automatic = threshold == "auto"
        if not (automatic or isinstance(threshold, int | float) and 0 <= threshold <= 1):
            raise InputError(
                f"threshold {threshold!r}: scores are numbers between 0 and 1, or auto"
            )
        if (automatic or calibrated) and maps is None:
            raise InputError("no calibration of scores: write it with tools/calibrate.py")
        if automatic and "LRP" not in maps.thresholds:
            raise InputError("threshold auto: the calibration has no LRP thresholds")
        self.threshold, self.maps = threshold, maps
        self.calibrated = calibrated
        self.labels: list[int] | None = None

    def __call__(self, instances: Instances) -> Instances:
        """Return the detections that stay, on the CPU; models with a softmax do not sort."""
        instances = _sorted(instances.to("cpu"))
        if self.labels is not None:
            instances = instances[torch.isin(instances.pred_classes, torch.tensor(self.labels))]
        if self.threshold == "auto":
            least = torch.tensor(self.maps.thresholds["LRP"], dtype=torch.float64)
            instances = instances[instances.scores >= least[instances.pred_classes]]
        if self.calibrated:
            scores = instances.scores.double().numpy(), instances.pred_classes.numpy()
            instances.scores = torch.from_numpy(self.maps.apply(*scores)).to(instances.scores)
            instances = _sorted(instances)  # the order across classes may change
        if self.threshold == "auto":
            return instances
        return instances[instances.scores >= self.threshold]

    def about(self) -> dict:
        """Plain values for JSON: threshold, calibrated, and the calibration if it is used."""
        used = self.calibrated or self.threshold == "auto"
        calibration = self.maps.to_dict() if used else None
        options = {"threshold": self.threshold, "calibrated": self.calibrated}
        return {**options, "calibration": calibration}


def _sorted(instances: Instances) -> Instances:
    return instances[instances.scores.argsort(descending=True, stable=True)]
