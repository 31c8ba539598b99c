"""The images on which runs make the most mistakes, with every box judged right or wrong."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pycocotools import mask

from detrex.evaluation.calibration.image import KINDS, ImageDetections, kinds_of_error
from detrex.evaluation.matching import IOU
from detrex.utils.images import open_image


@dataclass
class Verdict:
    """One run on one image.

    Attributes:
        detections: best score first.
        kinds: "" of each right detection, else the kind of error (:data:`KINDS`).
        missed: indices of the annotations without a detection.
    """

    detections: list[dict] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    missed: set[int] = field(default_factory=set)

    @property
    def mistakes(self) -> int:
        return self.wrong + len(self.missed)

    @property
    def wrong(self) -> int:
        """How many detections are wrong."""
        return sum(map(bool, self.kinds))


def judge(truth: Sequence[dict], detections: Sequence[dict]) -> Verdict:
    """Match detections to objects as COCO does at IoU 0.5.

    In the order of their scores each takes the free object of its class that it overlaps most; a
    detection on a crowd region is right.

    Args:
        truth: COCO annotations of one image, with ``iscrowd``.
        detections: COCO results of the same image.
    """
    detections = sorted(detections, key=lambda d: -d["score"])
    verdict = Verdict(detections, [], {i for i, t in enumerate(truth) if not t["iscrowd"]})
    overlap = _overlap(detections, truth)
    targets = []
    for row, detection in enumerate(detections):
        fits = [
            (i in verdict.missed, iou, i)
            for i, (iou, target) in enumerate(zip(overlap[row], truth, strict=True))
            if iou >= IOU
            and target["category_id"] == detection["category_id"]
            and (i in verdict.missed or target["iscrowd"])
        ]
        targets.append(max(fits)[-1] if fits else -1)
        verdict.missed.discard(targets[-1])
    verdict.kinds += _kinds(detections, truth, overlap, np.array(targets, int))
    return verdict


def _kinds(
    detections: list[dict], truth: Sequence[dict], overlap: np.ndarray, targets: np.ndarray
) -> list[str]:
    labels = np.array([d["category_id"] for d in detections], int)
    objects = [i for i, t in enumerate(truth) if not t["iscrowd"]]
    iou = overlap[:, objects]
    same = labels[:, None] == np.array([truth[i]["category_id"] for i in objects], int)
    scores = np.array([d["score"] for d in detections], float)
    judged = ImageDetections(np.empty((len(labels), 4)), scores, labels, iou, same, targets)
    return ["" if kind < 0 else KINDS[kind] for kind in kinds_of_error(judged)]


def hardest_images(
    ground_truth: dict, detections: Sequence[list[dict]], count: int
) -> list[tuple[dict, list[dict], list[Verdict]]]:
    """At most ``count`` images on which the runs together make the most mistakes.

    Args:
        ground_truth: COCO, as ``load_ground_truth`` returns it.
        detections: COCO results of each run.
        count: images to return; those without a mistake are left out.

    Returns:
        (COCO image, its annotations, each run's verdict), most mistakes first.
    """
    truth = _by_image(ground_truth["annotations"])
    by_run = [_by_image(results) for results in detections]
    rated = []
    for image in ground_truth["images"]:
        objects = truth[image["id"]]
        verdicts = [judge(objects, by_image[image["id"]]) for by_image in by_run]
        rated.append((image, objects, verdicts))
    rated.sort(key=lambda entry: -sum(verdict.mistakes for verdict in entry[2]))
    return [entry for entry in rated[:count] if any(v.mistakes for v in entry[2])]


def data_uri(path: Path, side: int = 640) -> str:
    """The image as a JPEG of at most ``side`` pixels a side, as an address inside a page."""
    image = open_image(path)
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _by_image(records: Iterable[dict]) -> dict[int, list[dict]]:
    by_image = defaultdict(list)
    for record in records:
        by_image[record["image_id"]].append(record)
    return by_image


def _overlap(detections: Sequence[dict], truth: Sequence[dict]) -> np.ndarray:  # (D, G)
    """IoU; for a crowd region, the share of the detection inside it."""
    if not detections or not truth:
        return np.zeros((len(detections), len(truth)))
    boxes = [np.array([r["bbox"] for r in records], float) for records in (detections, truth)]
    return mask.iou(*boxes, [int(t["iscrowd"]) for t in truth])
