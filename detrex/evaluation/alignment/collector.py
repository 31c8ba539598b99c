"""A report on a COCO data set from its images, added one by one.

Legend: L layers, N queries, D detections of an image, K classes; boxes are xyxy in pixels of the
original image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np

from detrex.evaluation.calibration import CalibrationMeter, CalibrationReport, summarise
from detrex.evaluation.coco_scores import (
    CURVE_IOUS,
    class_score,
    main_scores,
    precision_and_recall,
    scores_by_iou,
)
from detrex.evaluation.matching import Truth
from detrex.utils.errors import InputError
from detrex.utils.misc import ratio

from .definitions import Definitions
from .lrp import optimal_lrp
from .meter import HISTOGRAMS, MULTIPLES, SHOWN_BINS, SIZES, AlignmentMeter
from .report import AlignmentReport, GroupAlignment, LayerAlignment
from .statistics import pearson, rebin, spearman_of_histogram

# Sums by class and size.
GROUPED = ("matched", "br_hits", "br_objects")
# (end of a field's name, what optimal_lrp calls it, factor)
LRP_COLUMNS = (
    ("", "oLRP", 100),
    ("_localisation", "localisation", 100),
    ("_fp", "FP", 100),
    ("_fn", "FN", 100),
    ("_score", "score", 1),
)


class Detections(NamedTuple):
    """Detections of one image and layer: boxes (D, 4), scores (D,), labels (D,)."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def one_class_samples(detections: Detections, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return detections as samples of one layer: boxes (1, D, 4) and scores (1, D, K), which are 0
    for other classes than the detection's."""
    boxes, values, labels = detections
    scores = np.zeros((1, len(values), classes))
    scores[0, np.arange(len(values)), labels] = values
    return boxes[None], scores


class Diagnosis(NamedTuple):
    """Both reports on the same detections; the second one is of the last layer."""

    alignment: AlignmentReport
    calibration: CalibrationReport


class AlignmentCollector:
    """Measures alignment and COCO scores of each layer, image by image.

    Memory grows by 28 bytes for each detection of a layer (float32), which COCO's scores need. The
    rest is in an :class:`AlignmentMeter` and, of the last layer, a :class:`CalibrationMeter`.

    Args:
        ground_truth: of :func:`detrex.evaluation.coco_json.load_ground_truth`.
        category_ids: the JSON's category id of each class of the detector.
        layers: number of layers.
        definitions: see :class:`Definitions`.
        max_dets: see :func:`detrex.evaluation.evaluate_detections`.

    Raises:
        InputError: the ground truth has no object, or an image has no size.
    """

    def __init__(
        self,
        ground_truth: dict,
        category_ids: Sequence[int],
        layers: int,
        definitions: Definitions | None = None,
        max_dets: int = 100,
    ) -> None:
        self._ground_truth, self._max_dets = ground_truth, max_dets
        self._category_ids = list(category_ids)
        self._truths = read_truths(ground_truth, self._category_ids)
        self.meter = AlignmentMeter(len(self._category_ids), layers, definitions)
        self.calibration = CalibrationMeter(len(self._category_ids))
        self.detections: list[dict[int, Detections]] = [{} for _ in range(layers)]  # by image id

    def add(
        self,
        image_id: int,
        boxes: np.ndarray,
        scores: np.ndarray,
        detections: Sequence[Detections],
    ) -> None:
        """Add an image: boxes (L, N, 4), scores (L, N, K) and the L layers' detections.

        An image that was added before is left out.
        """
        if image_id in self.detections[0]:
            return
        for by_image, layer in zip(self.detections, detections, strict=True):
            by_image[image_id] = Detections(*(np.array(x, copy=True) for x in layer))
        truth = self._truths[image_id]
        self.meter.update(boxes, scores, truth, list(detections))
        self.calibration.update(image_id, *detections[-1], truth)

    @property
    def state(self) -> tuple[AlignmentMeter, CalibrationMeter, list[dict[int, Detections]]]:
        """What :meth:`merge` takes."""
        return self.meter, self.calibration, self.detections

    def merge(
        self,
        meter: AlignmentMeter,
        calibration: CalibrationMeter,
        detections: list[dict[int, Detections]],
    ) -> None:
        """Add the meters and detections of another process, which must be of other images."""
        self.meter.merge(meter)
        self.calibration.merge(calibration)
        for by_image, others in zip(self.detections, detections, strict=True):
            by_image.update(others)

    def report(self, kind: str, source: dict[str, str] | None = None) -> AlignmentReport:
        """Return the numbers of alignment; arguments as in :class:`AlignmentReport`."""
        return self.diagnosis(kind, source).alignment

    def diagnosis(self, kind: str, source: dict[str, str] | None = None) -> Diagnosis:
        """Return all numbers; ``kind`` and ``source`` as in :class:`AlignmentReport`."""
        arrays = [self._coco(layer) for layer in range(len(self.detections))]
        curves = arrays[-1]["curves"][:, self._axis()]
        names = {c["id"]: c["name"] for c in self._ground_truth["categories"]}
        calibration = summarise(
            self.calibration,
            [names[id_] for id_ in self._category_ids],
            {
                str(iou): 100 * np.where(curves[i] < 0, np.nan, curves[i])
                for i, iou in enumerate(CURVE_IOUS)
            },
            source,
        )
        return Diagnosis(self._alignment(arrays, kind, source), calibration)

    def _axis(self) -> list[int]:
        """Return where each class is on COCO's axis K."""
        axis = {id_: k for k, id_ in enumerate(sorted(self._category_ids))}
        return [axis[id_] for id_ in self._category_ids]

    def _alignment(
        self, arrays: list[dict], kind: str, source: dict[str, str] | None
    ) -> AlignmentReport:
        classes = len(self._category_ids)
        lrp = [optimal_lrp(x, self.meter.sums["objects"][:classes]) for x in self.meter.sums["lrp"]]
        return AlignmentReport(
            kind=kind,
            images=int(self.meter.sums["images"]),
            objects=int(self.meter.sums["objects"][:classes].sum()),
            definitions=asdict(self.meter.definitions),
            layers=[self._layer(i, *pair) for i, pair in enumerate(zip(arrays, lrp, strict=True))],
            classes=self._classes(arrays[-1], lrp[-1]),
            sizes=self._sizes(arrays[-1]),
            source=source or {},
        )

    def _coco(self, layer: int) -> dict[str, np.ndarray]:
        by_image, category_ids = self.detections[layer], np.array(self._category_ids)
        rows = np.empty((sum(len(x.scores) for x in by_image.values()), 7))
        first = 0
        for image_id, (boxes, scores, labels) in by_image.items():
            image = rows[first : first + len(scores)]
            first += len(scores)
            image[:, 0], image[:, 1:3] = image_id, boxes[:, :2]
            image[:, 3:5], image[:, 5] = boxes[:, 2:] - boxes[:, :2], scores
            image[:, 6] = category_ids[labels]
        return precision_and_recall(self._ground_truth, rows, max_dets=self._max_dets)

    def _layer(self, i: int, arrays: dict, lrp: dict[str, np.ndarray]) -> LayerAlignment:
        sums = {name: x[i] for name, x in self.meter.sums.items() if x.ndim > 1}
        matched = sums["matched"][: len(self._category_ids)].sum(0)
        return LayerAlignment(
            layer=i + 1,
            scores=main_scores(arrays),
            ap_by_iou=scores_by_iou(arrays),
            olrp={name: 100 * mean(lrp[name]) for name in ("oLRP", "localisation", "FP", "FN")},
            br_recall={
                str(k): float(100 * ratio(recalls, sums["br_images"][0]))
                for k, recalls in zip(MULTIPLES, sums["br_images"][1:], strict=True)
            },
            pearson=float(pearson(matched)),
            spearman=spearman_of_histogram(sums["density"]),
            rank_correlation=float(ratio(*sums["rank_correlation"][::-1])),
            matched_confidence=float(ratio(matched[1], matched[0])),
            matched_iou=float(ratio(matched[2], matched[0])),
            unmatched_confidence=float(ratio(*sums["unmatched"][[1, 0]])),
            unmatched_iou=float(ratio(*sums["unmatched"][[2, 0]])),
            histograms={
                name: counts.astype(int).tolist()
                for name, counts in zip(HISTOGRAMS, sums["histograms"], strict=True)
            },
            density=rebin(sums["density"], SHOWN_BINS).astype(int).tolist(),
        )

    def _classes(self, arrays: dict, lrp: dict[str, np.ndarray]) -> list[GroupAlignment]:
        names = {c["id"]: c["name"] for c in self._ground_truth["categories"]}
        return [
            self._group(
                names[id_],
                i,
                ap=class_score(arrays, k),
                ap50=class_score(arrays, k, "AP50"),
                ap75=class_score(arrays, k, "AP75"),
                **{f"olrp{end}": float(scale * lrp[name][i]) for end, name, scale in LRP_COLUMNS},
            )
            for i, (id_, k) in enumerate(zip(self._category_ids, self._axis(), strict=True))
        ]

    def _sizes(self, arrays: dict) -> list[GroupAlignment]:
        scores, first = main_scores(arrays), len(self._category_ids)
        unknown = {f"olrp{end}": np.nan for end, _, _ in LRP_COLUMNS}
        unknown |= {"ap50": np.nan, "ap75": np.nan}
        return [
            self._group(name, first + i, ap=scores[f"AP{name[0]}"], **unknown)
            for i, name in enumerate(SIZES)
        ]

    def _group(self, name: str, group: int, **scores: float) -> GroupAlignment:
        sums = {key: x[-1, group] for key, x in self.meter.sums.items() if key in GROUPED}
        matched = sums["matched"]
        return GroupAlignment(
            name=name,
            objects=int(self.meter.sums["objects"][group]),
            br_recall=float(100 * ratio(sums["br_hits"][0], sums["br_objects"])),
            pearson=float(pearson(matched)),
            matched_confidence=float(ratio(matched[1], matched[0])),
            matched_iou=float(ratio(matched[2], matched[0])),
            **scores,
        )


def mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN; NaN if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def read_truths(ground_truth: dict, category_ids: Sequence[int]) -> dict[int, Truth]:
    """Return image id -> its objects, with classes numbered in the order of ``category_ids``."""
    label = {id_: i for i, id_ in enumerate(category_ids)}
    by_image: dict[int, list[dict]] = {image["id"]: [] for image in ground_truth["images"]}
    for annotation in ground_truth["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    if all(annotation["iscrowd"] for annotation in ground_truth["annotations"]):
        raise InputError("the ground truth has no objects: there is nothing to compare with")
    return {
        image["id"]: _truth(image, by_image[image["id"]], label) for image in ground_truth["images"]
    }


def _truth(image: dict, annotations: list[dict], label: dict[int, int]) -> Truth:
    if not (image.get("height") and image.get("width")):
        raise InputError(f"image {image['id']} of the ground truth has no height and width")
    crowd = np.array([bool(a["iscrowd"]) for a in annotations], bool)
    boxes = np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([label[a["category_id"]] for a in annotations], np.int64)
    areas = np.array([a["area"] for a in annotations], np.float64)
    return Truth(
        boxes[~crowd],
        labels[~crowd],
        areas[~crowd],
        boxes[crowd],
        labels[crowd],
        (image["height"], image["width"]),
    )
