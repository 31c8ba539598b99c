"""What scores are worth, as plain numbers (``calibration.json``).

Units: scores, IoU, calibration errors, precision, recall, F1 and LRP in [0, 1]; AP in percent. NaN
(null in JSON) where nothing was there to measure.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

from detrex.data.coco import LARGEST_ID
from detrex.evaluation.report_files import read_versioned
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.misc import finite
from detrex.utils.small_files import is_a

from .errors import COSTS
from .image import KINDS
from .reliability import ERRORS
from .thresholds import MEASURES

FORMAT = 1
FILE_NAME = "calibration.json"


@dataclass(frozen=True)
class GroupCalibration:
    """One class, or all of them.

    Of all classes together, LaECE0, LaACE0, AP50 and its costs are means over the classes that have
    objects; the rest treats them as one class, with one threshold for all.

    Attributes:
        errors: D-ECE, LaECE0 and LaACE0 of all detections
            (:func:`.reliability.calibration_errors`), each [value, low, high] with the ends of a
            95 % interval (bootstrap over images).
        shown_errors: the same of the detections from the class's LRP threshold on, which are those
            that a user sees. (The threshold is rounded down to 0.01.)
        reliability: columns by 25 bins of the score, see :func:`.reliability.reliability`.
        operating_points: "LRP" and "F1": the best threshold ("score") and what it gives, see
            :func:`.thresholds.at_thresholds`.
        curve: "right", "wrong", "inaccuracy" by threshold, see :func:`.thresholds.curve`.
        precision_recall: precision, percent, at recall 0, 0.01 ... 1 by IoU threshold ("0.5",
            "0.75", "0.9").
        costs: "AP50" and what each kind of error takes from it, see :func:`.errors.error_costs`.
        counts: number of errors by kind.
        duplicates: columns by threshold, see :func:`.duplicates.duplicates`.
    """

    name: str
    objects: int
    detections: int
    errors: dict[str, list[float]]
    shown_errors: dict[str, list[float]]
    reliability: dict[str, list[float]]
    operating_points: dict[str, dict[str, float]]
    curve: dict[str, list[float]]
    precision_recall: dict[str, list[float]]
    costs: dict[str, float]
    counts: dict[str, int]
    duplicates: dict[str, list[float]]

    def duplicates_at(self, threshold: float) -> float:
        """Return the share of detections that overlap a better one by 0.7 or more, at the next
        lower of the thresholds 0.05, 0.1 ... 0.95; NaN for NaN."""
        if math.isnan(threshold):
            return math.nan
        step = min(max(int(threshold * 20 + 1e-6), 1), 19)
        return self.duplicates["share 0.7"][step - 1]


@dataclass(frozen=True)
class CalibrationReport:
    """What a detector's scores are worth; ``calibration.json`` holds its ``to_dict``.

    Attributes:
        overall: all classes together.
        confusion: cells [true class, predicted class, count] by threshold, see
            :func:`.duplicates.confusion`; numbers are indices in ``classes``.
        source: as :class:`detrex.evaluation.alignment.AlignmentReport`'s.
    """

    images: int
    overall: GroupCalibration
    classes: list[GroupCalibration]
    confusion: dict[str, list[list[int]]]
    source: dict[str, str]
    format: int = FORMAT

    def scalars(self) -> dict[str, float]:
        """Return the main numbers, for TensorBoard and ``train.best_metric``; "duplicates" are
        those at the F1 threshold."""
        overall = self.overall
        numbers = {name: values[0] for name, values in overall.errors.items()}
        numbers |= {f"shown_{name}": values[0] for name, values in overall.shown_errors.items()}
        for measure, point in overall.operating_points.items():
            numbers |= {f"{measure}_threshold": point["score"], measure: point[measure]}
        numbers["duplicates"] = overall.duplicates_at(overall.operating_points["F1"]["score"])
        return numbers | {f"cost_{name}": overall.costs[name] for name in COSTS}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as nested dicts and lists, numbers with six digits, NaN as None."""
        return _short(finite(asdict(self)))

    def save(self, folder: str | os.PathLike) -> None:
        """Write ``folder/calibration.json``."""
        with atomic_write(os.path.join(folder, FILE_NAME)) as stream:
            json.dump(self.to_dict(), stream, allow_nan=False)


def load_calibration(path: str | os.PathLike) -> CalibrationReport:
    """Read ``calibration.json``.

    Raises:
        InputError: it is damaged, or of another version.
    """
    content = read_versioned(path, FORMAT)
    kinds = get_type_hints(CalibrationReport) | {"overall": dict, "classes": list[dict]}
    for key, kind in kinds.items():
        if not (is_a(content.get(key), kind) and _is_complete(key, content[key])):
            raise InputError(f"{path}: not a calibration.json: {key} is missing or damaged")
    groups = [_group(path, group) for group in (content["overall"], *content["classes"])]
    cells = itertools.chain(*content["confusion"].values())
    if not all(_is_cell(cell, len(groups)) for cell in cells):
        raise InputError(f"{path}: not a calibration.json: confusion is damaged")
    fields = {key: content[key] for key in kinds}
    return CalibrationReport(**fields | {"overall": groups[0], "classes": groups[1:]})


_ENDS = {name: (name, f"{name}_low", f"{name}_high") for name in ("precision", "iou")}
# The keys that every group has, by field.
_COLUMNS = {
    "errors": ERRORS,
    "shown_errors": ERRORS,
    "reliability": ("count", "score", *_ENDS["precision"], *_ENDS["iou"]),
    "operating_points": MEASURES,
    "curve": ("right", "wrong", "inaccuracy"),
    "precision_recall": ("0.5", "0.75", "0.9"),
    "costs": ("AP50", *COSTS),
    "counts": (*KINDS, "missed"),
    "duplicates": ("share 0.5", "share 0.7", "share 0.9", "per object"),
}
_LENGTHS = {"errors": 3, "shown_errors": 3, "reliability": 25, "curve": 101, "duplicates": 19}
_LENGTHS["precision_recall"] = 101


def _group(path: str | os.PathLike, content: dict) -> GroupCalibration:
    kinds = get_type_hints(GroupCalibration)
    for key, kind in kinds.items():
        if not (is_a(content.get(key), kind) and _is_complete(key, content[key])):
            raise InputError(f"{path}: not a calibration.json: {key} is missing or damaged")
    return GroupCalibration(**{key: content[key] for key in kinds})


def _is_complete(key: str, value: Any) -> bool:
    """Whether a field has its keys, columns of the right length, and no number out of bounds."""
    if key not in _COLUMNS:
        return not isinstance(value, int) or 0 <= value <= LARGEST_ID
    if not set(_COLUMNS[key]) <= value.keys():
        return False
    if key == "operating_points":
        columns = {"score", "precision", "recall", "iou"}
        return all(columns | {name} <= value[name].keys() for name in MEASURES)
    if key not in _LENGTHS:
        return True
    numbers = itertools.chain(*value.values())
    lengths = {len(column) for column in value.values()}
    return lengths == {_LENGTHS[key]} and not any(abs(x) > LARGEST_ID for x in numbers)


def _is_cell(cell: list[int], classes: int) -> bool:
    """Whether a cell names two classes or background, of ``classes`` with background."""
    return len(cell) == 3 and max(cell[:2]) < classes and 0 <= min(cell) <= max(cell) <= LARGEST_ID


def _short(value: Any) -> Any:
    """Numbers with six significant digits: files are a third of the size."""
    if isinstance(value, dict):
        return {key: _short(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_short(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
