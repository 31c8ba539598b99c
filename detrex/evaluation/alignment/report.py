"""What an alignment diagnosis finds, as plain numbers (``alignment.json``).

Units: AP, recall and LRP in percent; IoU and confidence in [0, 1]; correlations in [-1, 1]. NaN
(null in JSON) where nothing was there to measure.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

from detrex.evaluation.report_files import read_versioned
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.misc import finite
from detrex.utils.small_files import is_a

FORMAT = 1
FILE_NAME = "alignment.json"
WHY_RECALL_FALLS = (
    "Recall at N falls from layer to layer because ever more queries fit an object almost as well "
    "as the best one, so that another of them is the most confident; AP need not suffer."
)
HISTOGRAMS = {"best_regressed", "high_confidence", "unmatched"}


@dataclass(frozen=True)
class LayerAlignment:
    """One decoder layer, or the detections of a results file.

    Attributes:
        layer: from 1; the last one is what the detector returns.
        scores: COCO's numbers (AP, AP50, ..., as in :data:`detrex.evaluation.coco_scores.SCORES`).
        ap_by_iou: AP at IoU 0.50, 0.55 ... 0.95 (10 numbers).
        olrp: optimal LRP (Oksuz et al. 2021) as "oLRP", "localisation", "FP", "FN", means over
            classes.
        br_recall: recall of best-regressed samples among the N, 2N, ... most confident of an
            image with N objects, by multiple ("1", "2", ...).
        pearson, spearman: between confidence and IoU of matched samples, all images together.
            Matching trades one for the other: a detector that scores at random comes out below 0.
        rank_correlation: mean over images of Spearman's coefficient between the confidence and the
            best IoU of an image's candidates (see ``Definitions.candidate_iou``).
        matched_confidence, matched_iou, unmatched_confidence, unmatched_iou: means; the IoU of an
            unmatched sample is that with its nearest object.
        histograms: counts over 50 equal bins of IoU in [0, 1]: "best_regressed",
            "high_confidence" (the N most confident of an image), "unmatched".
        density: counts (50, 50) of matched samples; row = bin of confidence, column = bin of IoU.
    """

    layer: int
    scores: dict[str, float]
    ap_by_iou: list[float]
    olrp: dict[str, float]
    br_recall: dict[str, float]
    pearson: float
    spearman: float
    rank_correlation: float
    matched_confidence: float
    matched_iou: float
    unmatched_confidence: float
    unmatched_iou: float
    histograms: dict[str, list[int]]
    density: list[list[int]]


@dataclass(frozen=True)
class GroupAlignment:
    """The last layer on the objects of one class or of one of COCO's sizes.

    ``ap50`` and ``ap75`` and the parts of oLRP exist for classes only (NaN for sizes).
    ``olrp_score`` is the class's best score threshold, the one oLRP is taken at.
    """

    name: str
    objects: int
    ap: float
    ap50: float
    ap75: float
    olrp: float
    olrp_localisation: float
    olrp_fp: float
    olrp_fn: float
    olrp_score: float
    br_recall: float  # at N
    pearson: float
    matched_confidence: float
    matched_iou: float


@dataclass(frozen=True)
class AlignmentReport:
    """The result of a diagnosis; ``alignment.json`` holds its ``to_dict``.

    Attributes:
        kind: "queries", of every layer of a model; or "detections", of a results file or of a model
            that is no :class:`detrex.modeling.detector.Detector`.
        definitions: the choices that the numbers depend on.
        source: what was measured: "annotations" with "results", or with "config" and "checkpoint".
    """

    kind: str
    images: int
    objects: int
    definitions: dict[str, Any]
    layers: list[LayerAlignment]
    classes: list[GroupAlignment]
    sizes: list[GroupAlignment]
    source: dict[str, str]
    format: int = FORMAT

    @property
    def last(self) -> LayerAlignment:
        return self.layers[-1]

    @property
    def recall_falls(self) -> bool:
        """Whether fewer best-regressed queries are among the N most confident in the last layer
        than in the first."""
        return self.kind == "queries" and self.last.br_recall["1"] < self.layers[0].br_recall["1"]

    def scalars(self) -> dict[str, float]:
        """Return the last layer's main numbers and AP by layer, for TensorBoard."""
        last = self.last
        names = ("pearson", "spearman", "rank_correlation", "matched_iou", "unmatched_iou")
        scalars = {name: getattr(last, name) for name in names}
        scalars |= {f"br_recall_{k}N": value for k, value in last.br_recall.items()}
        scalars |= {name if name == "oLRP" else f"oLRP_{name}": v for name, v in last.olrp.items()}
        return scalars | {f"AP_layer{layer.layer}": layer.scores["AP"] for layer in self.layers}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as nested dicts and lists, NaN as None."""
        return finite(asdict(self))

    def save(self, folder: str | os.PathLike) -> None:
        """Write ``folder/alignment.json``."""
        with atomic_write(os.path.join(folder, FILE_NAME)) as stream:
            json.dump(self.to_dict(), stream, allow_nan=False)


def load_report(path: str | os.PathLike) -> AlignmentReport:
    """Read ``alignment.json``.

    Raises:
        InputError: it is damaged, or of another version.
    """
    content = read_versioned(path, FORMAT)
    lists = {"layers": LayerAlignment, "classes": GroupAlignment, "sizes": GroupAlignment}
    kinds = get_type_hints(AlignmentReport) | {key: list[dict] for key in lists}
    for key, kind in kinds.items():
        if not is_a(content.get(key), kind):
            raise InputError(f"{path}: not an alignment.json: {key} is missing or damaged")
    try:
        made = {key: [_entry(kind, x) for x in content[key]] for key, kind in lists.items()}
    except InputError as error:
        raise InputError(f"{path}: not an alignment.json: {error}") from None
    return AlignmentReport(**{key: made.get(key, content[key]) for key in kinds})


def _entry(kind: type, content: dict) -> Any:
    kinds = get_type_hints(kind)
    for key, part in kinds.items():
        if not is_a(content.get(key), part):
            raise InputError(f"{key} of a {kind.__name__} is missing or damaged")
    if kind is LayerAlignment and not _is_complete(content):
        raise InputError("a LayerAlignment lacks its AP, a recall or a histogram")
    return kind(**{key: content[key] for key in kinds})


def _is_complete(layer: dict) -> bool:
    multiples = layer["br_recall"]
    complete = HISTOGRAMS <= layer["histograms"].keys() and {"1", "2"} <= multiples.keys()
    return complete and all(map(str.isdecimal, multiples)) and "AP" in layer["scores"]
