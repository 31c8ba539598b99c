"""Scores of LVIS: a class counts only in images where it was looked for (Gupta et al. 2019)."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping, Sequence

from detrex.utils.errors import InputError

from .coco import COCOEvaluator

MAX_DETS = 300
SCORES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
_KEYS = {
    "images": ("neg_category_ids", "not_exhaustive_category_ids"),
    "categories": ("frequency",),
}


class LVISEvaluator(COCOEvaluator):
    """Scores a detector as LVIS does, with "APr", "APc" and "APf" of rare, common and frequent
    classes. Needs hotcoco.

    Detections of classes that an image's entry lists neither among its objects nor in
    ``neg_category_ids`` do not count, and unmatched ones of ``not_exhaustive_category_ids``
    neither.

    Args:
        dataset_name, output_dir, diagnose: as of :class:`detrex.evaluation.COCOEvaluator`.
        max_dets: detections per image that count.

    Raises:
        InputError: hotcoco is not installed.
    """

    keys: Mapping[str, tuple[str, ...]] = _KEYS

    def __init__(
        self,
        dataset_name: str | Sequence[str],
        output_dir: str | os.PathLike | None = None,
        *,
        max_dets: int = MAX_DETS,
        diagnose: bool | Mapping = False,
    ) -> None:
        super().__init__(
            dataset_name, output_dir, max_dets=max_dets, backend="hotcoco", diagnose=diagnose
        )

    def _scores(self, detections: list[dict]) -> dict[str, float]:
        return lvis_scores(self.ground_truth, detections, self.max_dets, str(self.json_file))

    def _table(self, scores: dict[str, float]) -> str:
        return "\n".join(f" {name:<5} {score:6.2f}" for name, score in scores.items())


def lvis_scores(
    ground_truth: dict, detections: list[dict], max_dets: int = MAX_DETS, name: str = "LVIS"
) -> dict[str, float]:
    """Return percentages by ``SCORES``; NaN where there is no such object.

    Args:
        ground_truth: content of an LVIS JSON, with the keys of federated evaluation.
        detections: COCO results.
        max_dets: detections per image that count, of all classes.
        name: for messages.

    Raises:
        InputError: an image or a class lacks one of the keys.
    """
    for section, keys in _KEYS.items():
        for entry in ground_truth[section]:
            if missing := [key for key in keys if key not in entry]:
                raise InputError(f"{name}: {section}: id {entry['id']} has no {missing[0]!r}")
    if not detections:
        return dict.fromkeys(SCORES, 0.0)
    from hotcoco import COCO, COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints the scores
        truth = COCO({**ground_truth, "annotations": [*map(dict, ground_truth["annotations"])]})
        run = COCOeval(truth, truth.loadRes([*map(dict, detections)]), "bbox", lvis_style=True)
        run.params.maxDets = [max_dets]
        run.run()
    results = run.get_results()
    return {k: 100 * results[k] if results[k] >= 0 else float("nan") for k in SCORES}
