"""COCO box scoring with hotcoco against pycocotools on synthetic detections.

The clock is the process's CPU time, and hotcoco has one thread: what scoring costs a core.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable

import numpy as np

from benchmarks.baseline import coco as baseline
from detrex.evaluation.coco_json import load_ground_truth
from detrex.evaluation.coco_scores import BACKENDS, evaluate_detections

GOAL = 100  # times faster, without loading
IMAGES, DETECTIONS, OBJECTS, CLASSES = 2000, 100, 7, 80
SIZE = np.array([640.0, 480.0])


def boxes(random: np.random.RandomState, count: int) -> np.ndarray:  # (count, 4) x, y, w, h
    """Inside the image; sides of 8 to 400 pixels, small ones more often, as in COCO."""
    sides = np.exp(random.uniform(np.log(8), np.log(400), (count, 2)))
    return np.concatenate([random.rand(count, 2) * (SIZE - sides), sides], axis=1)


def synthetic(
    images: int = IMAGES, seed: int = 0, detections: int = DETECTIONS
) -> tuple[dict, list[dict]]:
    """COCO ground truth (1 % crowds), and results: jittered objects, then random boxes."""
    random, truth, results = np.random.RandomState(seed), [], []
    for image in range(1, images + 1):
        objects = boxes(random, random.poisson(OBJECTS))
        labels = random.randint(1, CLASSES + 1, detections)
        for box, label in zip(objects, labels, strict=False):
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": int(random.rand() < 0.01),
                }
            )
        guesses = np.concatenate([objects, boxes(random, detections)])[:detections]
        guesses *= np.exp(random.normal(0, 0.1, guesses.shape))
        scores = random.rand(detections) * np.where(np.arange(detections) < len(objects), 1, 0.4)
        rows = zip(labels.tolist(), guesses.tolist(), scores.tolist(), strict=True)
        results += [
            {"image_id": image, "category_id": label, "bbox": box, "score": score}
            for label, box, score in rows
        ]
    listed = [{"id": i, "width": 640, "height": 480} for i in range(1, images + 1)]
    classes = [{"id": i, "name": str(i)} for i in range(1, CLASSES + 1)]
    return {"images": listed, "annotations": truth, "categories": classes}, results


def timed(function: Callable, *arguments) -> tuple[float, object]:
    """CPU seconds and the result."""
    start = time.process_time()
    result = function(*arguments)
    return time.process_time() - start, result


def plain(truth: dict, results: list[dict]) -> tuple[float, float, np.ndarray]:
    """Seconds to evaluate, seconds in all, and the twelve percentages by pycocotools."""
    loading, evaluation = timed(baseline.load, *copies(truth, results))
    scoring, stats = timed(baseline.score, evaluation)
    return scoring, loading + scoring, 100 * stats


def ours(truth: dict, results: list[dict]) -> tuple[float, float, np.ndarray]:
    """The same by ``evaluate_detections``; the evaluation alone is timed on its backend."""
    total, scores = timed(evaluate_detections, truth, results, "hotcoco")
    index, evaluator = BACKENDS["hotcoco"]()
    with contextlib.redirect_stdout(io.StringIO()):
        coco = index(load_ground_truth(truth))
        evaluation = evaluator(coco, coco.loadRes([dict(result) for result in results]), "bbox")
        scoring = timed(evaluation.evaluate)[0] + timed(evaluation.accumulate)[0]
    return scoring, total, np.array(list(scores.values()))


def copies(truth: dict, results: list[dict]) -> tuple[dict, list[dict]]:
    """Copies for pycocotools, which writes into its arguments."""
    annotations = [dict(annotation) for annotation in truth["annotations"]]
    return {**truth, "info": {}, "annotations": annotations}, [dict(r) for r in results]


def run(repeats: int = 3) -> list[dict]:
    """Rows for the evaluation alone and for the whole call, sides in turns.

    Raises ValueError when one of the twelve numbers differs between the sides.
    """
    os.environ["RAYON_NUM_THREADS"] = "1"  # read when hotcoco first starts its thread pool
    truth, results = synthetic()
    rounds = [(plain(truth, results), ours(truth, results)) for _ in range(repeats)]
    difference = max(np.abs(base[2] - fast[2]).max() for base, fast in rounds)
    if difference > 1e-9:
        raise ValueError(f"the twelve numbers differ by up to {difference}")
    size = f"{IMAGES} images, {len(truth['annotations'])} objects, {len(results)} detections"
    rows = []
    cases = (("evaluate and accumulate", {"goal": GOAL}), ("with loading", {}))
    for column, (name, goal) in enumerate(cases):
        base, fast = np.median([[side[column] for side in pair] for pair in rounds], axis=0)
        row = {"what": f"coco, {size}, {name}", "baseline_s": float(base), "ours_s": float(fast)}
        rows.append(row | {"ratio": float(base / fast), "max_difference": float(difference)} | goal)
    return rows
