"""The whole diagnosis of a results file, from JSON to numbers, on synthetic detections.

The clock is the process's CPU time and everything has one thread: what it costs a core.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks.coco import synthetic
from detrex.evaluation.alignment import AlignmentReport, alignment_of_results

GOAL = 90.0  # seconds
IMAGES, DETECTIONS = 5000, 300


def measure(images: int = IMAGES, detections: int = DETECTIONS) -> tuple[float, AlignmentReport]:
    """Seconds and the report; writing the two files is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("results.json", "val.json")]
        truth, results = synthetic(images, detections=detections)
        for path, content in zip(paths, (results, truth), strict=True):
            path.write_text(json.dumps(content))
        del truth, results  # as large as what is measured
        start = time.process_time()
        report = alignment_of_results(*paths)
        return time.process_time() - start, report


def run() -> list[dict]:
    """One row, without a second side: no other toolbox measures this."""
    os.environ["RAYON_NUM_THREADS"] = "1"  # read when hotcoco first starts its thread pool
    seconds, report = measure()
    what = f"alignment, {IMAGES} images, {report.objects} objects, {IMAGES * DETECTIONS} detections"
    return [{"what": what, "ours_s": seconds, "goal_s": GOAL}]
