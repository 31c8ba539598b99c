"""Maps of scores and thresholds from detections in COCO's results format."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from detrex.evaluation.alignment.collector import read_truths
from detrex.evaluation.alignment.results import by_image, read_detections
from detrex.evaluation.coco_json import load_ground_truth
from detrex.utils.errors import InputError

from .fit import cross_validate, fit
from .maps import ScoreMaps
from .meter import CalibrationMeter
from .samples import Samples, joined, samples_of_image
from .thresholds import MEASURES, operating_points, outcomes_from


class HeldOut(NamedTuple):
    """Detections on held-out images.

    Attributes:
        samples: every detection that counts.
        classes: name of each class.
        thresholds: "LRP" and "F1": each class's best threshold; that of all classes together for a
            class without one.
        without: the classes without one: no object, or none that a detection matches.
    """

    samples: Samples
    classes: list[str]
    thresholds: dict[str, list[float]]
    without: list[str]


def read_held_out(results: str | os.PathLike, annotations: str | os.PathLike) -> HeldOut:
    """Read a results JSON and the COCO JSON of its data set.

    Raises:
        InputError: a file cannot be read or belongs to another data set, there are no detections or
            no objects, or a score is outside [0, 1]; names the file.
    """
    gt = load_ground_truth(annotations)
    rows = read_detections(results, gt)
    names = {c["id"]: c["name"] for c in gt["categories"]}
    category_ids = sorted(names)
    try:
        truths = read_truths(gt, category_ids)
    except InputError as error:
        raise InputError(f"{annotations}: {error}") from None
    meter, samples = CalibrationMeter(len(category_ids)), []
    images = by_image(rows, [image["id"] for image in gt["images"]], category_ids)
    for number, (image_id, detections) in enumerate(images):
        meter.update(image_id, *detections, truths[image_id])
        samples.append(samples_of_image(number, *detections, truths[image_id]))
    classes = [names[id_] for id_ in category_ids]
    points, common = _operating_points(meter)
    thresholds = {
        name: np.nan_to_num([p[name]["score"] for p in points], nan=common[name]["score"]).tolist()
        for name in MEASURES
    }
    pairs = zip(classes, points, strict=True)
    without = [name for name, p in pairs if np.isnan(p["LRP"]["score"])]
    return HeldOut(joined(samples), classes, thresholds, without)


def _operating_points(meter: CalibrationMeter) -> tuple[list[dict], dict]:
    """Return the best thresholds of each class, and those of all classes together."""
    outcomes, objects = meter.sums["outcomes"], meter.sums["objects"]
    images = float(meter.sums["images"])
    common = operating_points(outcomes_from(outcomes.sum(0), objects.sum(), images))
    points = [
        operating_points(outcomes_from(sums, count, images))
        for sums, count in zip(outcomes, objects, strict=True)
    ]
    return points, common


def calibrate(
    held_out: HeldOut, kind: str, target: str, per_class: bool
) -> tuple[ScoreMaps, list[str], dict[str, tuple[float, float]]]:
    """Return the maps with thresholds, the classes without a map of their own for want of data, and
    each calibration error before and after by cross-validation.

    Raises:
        InputError: not enough data.
    """
    arguments = held_out.samples, len(held_out.classes), kind, target, per_class
    errors = cross_validate(*arguments)
    maps, without = fit(*arguments)
    maps = replace(maps, thresholds=held_out.thresholds)
    return maps, [held_out.classes[label] for label in without], errors
