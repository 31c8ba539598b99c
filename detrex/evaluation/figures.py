"""The figures of an evaluation by which the best weights can be chosen, or a run be ended."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from detrex.utils.errors import InputError

from .coco_scores import SCORES

_HIGH = {
    "bbox": SCORES,
    "alignment": ("pearson", "spearman", "rank_correlation", "matched_iou", "br_recall_1N"),
    "calibration": ("F1",),
}
_LOW = {
    "alignment": ("oLRP", "oLRP_localisation", "oLRP_FP", "oLRP_FN"),
    "calibration": (
        *("D-ECE", "LaECE0", "LaACE0", "shown_D-ECE", "shown_LaECE0", "shown_LaACE0"),
        *("LRP", "duplicates"),
        *("cost_classification", "cost_localisation", "cost_both", "cost_duplicate"),
        *("cost_background", "cost_missed", "cost_false_positives", "cost_false_negatives"),
    ),
}
# "task/name" -> whether it is better when lower. Thresholds, for example, are neither.
LOWER_IS_BETTER = {
    f"{task}/{name}": low
    for low, tasks in ((False, _HIGH), (True, _LOW))
    for task, names in tasks.items()
    for name in names
}
_NUMBERED = re.compile(r"bbox/AP-.+|alignment/(AP_layer|br_recall_)\d+N?")  # better when higher


def lower_is_better(name: str) -> bool:
    """Whether a logged number ("bbox/AP", "ema_calibration/D-ECE", "loss_class") is better when it
    is lower: losses are, and what the table says."""
    return LOWER_IS_BETTER.get(name.removeprefix("ema_"), "loss" in name)


def check_figure(
    figure: str, per_class: bool, diagnose: bool, key: str = "train.best_metric"
) -> None:
    """Check that :class:`detrex.evaluation.COCOEvaluator` with these options returns a figure, and
    that it is better when higher, or when lower.

    Args:
        figure: "task/name", e.g. "calibration/D-ECE".
        per_class: as the evaluator's.
        diagnose: as well.
        key: of the config, for messages.

    Raises:
        InputError: names the nearest figures, or the option.
    """
    if figure not in LOWER_IS_BETTER and not _NUMBERED.fullmatch(figure):
        raise unknown_figure(figure, LOWER_IS_BETTER, key)
    option = "per_class" if figure.startswith("bbox/AP-") and not per_class else None
    if not figure.startswith("bbox/") and not diagnose:
        option = "diagnose"
    if option:
        raise InputError(f"{key}={figure}: needs dataloader.evaluator.{option}=True")


def unknown_figure(
    figure: str, figures: Iterable[str], key: str = "train.best_metric"
) -> InputError:
    """Return the error for a name that is none of the figures; it names the nearest ones."""
    near = difflib.get_close_matches(figure, list(figures), n=3, cutoff=0.3)
    return InputError(
        f"{key}={figure}: no figure of this run that is better when higher, or when lower; "
        f"the nearest: {', '.join(near) or ', '.join(figures)}"
    )
