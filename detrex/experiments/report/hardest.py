"""The images on which runs make the most mistakes, with every box told right from wrong."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pycocotools import mask

from detrex.utils.images import open_image

LEAST_IOU = 0.5  # as AP50 counts a detection as right


@dataclass
class Verdict:
    """One run on one image: its detections, best first, and the objects it missed.

    ``right[i]`` is about ``detections[i]``; ``missed`` indexes the image's annotations.
    """

    detections: list[dict] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    missed: set[int] = field(default_factory=set)

    @property
    def mistakes(self) -> int:
        return self.right.count(False) + len(self.missed)


def judge(truth: Sequence[dict], detections: Sequence[dict]) -> Verdict:
    """Match detections to objects as COCO does at IoU 0.5: best score first, each to the free
    object of its class that it overlaps most; what lies on a crowd region is right.

    Args:
        truth: COCO annotations of one image, with ``iscrowd``.
        detections: COCO results of the same image that are to be judged.
    """
    found = sorted(detections, key=lambda d: -d["score"])
    verdict = Verdict(found, [], {i for i, t in enumerate(truth) if not t["iscrowd"]})
    overlap = _overlap(found, truth)
    for row, detection in enumerate(found):
        fits = [
            (i in verdict.missed, iou, i)
            for i, (iou, target) in enumerate(zip(overlap[row], truth, strict=True))
            if iou >= LEAST_IOU
            and target["category_id"] == detection["category_id"]
            and (i in verdict.missed or target["iscrowd"])
        ]
        verdict.right.append(bool(fits))
        if fits:
            verdict.missed.discard(max(fits)[-1])
    return verdict


def hardest_images(
    ground_truth: dict, detections: Sequence[list[dict]], count: int
) -> list[tuple[dict, list[dict], list[Verdict]]]:
    """The ``count`` images with the most mistakes of all runs together, none without a mistake.

    Args:
        ground_truth: COCO, as ``load_ground_truth`` gives it.
        detections: of each run, those that are to be judged.

    Returns (COCO image, its annotations, each run's verdict), most mistakes first.
    """
    truth = _by_image(ground_truth["annotations"])
    found = [_by_image(run) for run in detections]
    rated = []
    for image in ground_truth["images"]:
        objects = truth[image["id"]]
        verdicts = [judge(objects, run[image["id"]]) for run in found]
        rated.append((image, objects, verdicts))
    rated.sort(key=lambda entry: -sum(verdict.mistakes for verdict in entry[2]))
    return [entry for entry in rated[:count] if any(v.mistakes for v in entry[2])]


def data_uri(path: Path, side: int = 640) -> str:
    """The image as JPEG of at most ``side`` pixels a side, to stand inside a page."""
    image = open_image(path)
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _by_image(records: Iterable[dict]) -> dict[int, list[dict]]:
    found = defaultdict(list)
    for record in records:
        found[record["image_id"]].append(record)
    return found


def _overlap(detections: Sequence[dict], truth: Sequence[dict]) -> np.ndarray:  # (D, G)
    """IoU; with a crowd region the part of the detection inside it."""
    if not detections or not truth:
        return np.zeros((len(detections), len(truth)))
    boxes = [np.array([r["bbox"] for r in records], float) for records in (detections, truth)]
    return mask.iou(*boxes, [int(t["iscrowd"]) for t in truth])
