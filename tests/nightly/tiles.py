"""Plain prediction against tiles, on large images of the sample data's painter.

python tests/nightly/tiles.py CHECKPOINT [IMAGES]

An image has 1024 pixels a side: two quarters with many digits of 16 to 96 pixels, one with digits
twice as large, one with digits four times as large, up to 384 pixels. CHECKPOINT is of
projects/rank_detr/configs/rank_detr_efficientnet_lite0_sample_data.py. One line per way: AP, AR by
the digits' sizes, and the seconds of an image.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from detrex import Predictor
from detrex.data.sample.files import load_digit_scans, load_photographs
from detrex.data.sample.scene import compose
from detrex.evaluation import evaluate_detections
from detrex.predict import Tiles

QUARTER = 512
SCALES = {(0, 0): 1, (0, QUARTER): 2, (QUARTER, 0): 4, (QUARTER, QUARTER): 1}  # by x, y
DENSITY = 24  # at most so many digits in a quarter of scale 1
WAYS = {  # tiles, and the model's nms_iou
    "plain": (None, None),
    "plain, nms_iou 0.5": (None, 0.5),
    "tiles of 512": (Tiles(512, 0.2), None),
    "tiles of 256": (Tiles(256, 0.2), None),
    "tiles of 256, nms_iou 0.5": (Tiles(256, 0.2), 0.5),
    "tiles of 256, overlap 0.4": (Tiles(256, 0.4), None),
}


def paint(seed: int) -> tuple[np.ndarray, list[tuple[list[int], int]]]:
    """An image (1024, 1024, 3) of uint8, and its digits as ([x, y, w, h], label)."""
    rng, photographs = np.random.default_rng([1, seed]), load_photographs("val")
    pixels, digits = np.zeros((2 * QUARTER, 2 * QUARTER, 3), np.uint8), []
    for (x, y), scale in SCALES.items():
        side = QUARTER // scale
        most = max(2, DENSITY // scale**2)
        scene = compose(rng, photographs, load_digit_scans("val"), side, most)
        quarter = Image.fromarray((scene.pixels * 255).round().astype(np.uint8))
        quarter = quarter.resize((QUARTER, QUARTER), Image.Resampling.BICUBIC)
        pixels[y : y + QUARTER, x : x + QUARTER] = np.asarray(quarter)
        for digit in scene.digits:
            box = [scale * n for n in digit.box]
            digits.append(([box[0] + x, box[1] + y, *box[2:]], digit.label))
    return pixels, digits


def ground_truth(paintings: list) -> dict:
    entries = [(i, *digit) for i, (_, digits) in enumerate(paintings) for digit in digits]
    return {
        "images": [
            {"id": i, "file_name": f"{i}", "width": 2 * QUARTER, "height": 2 * QUARTER}
            for i in range(len(paintings))
        ],
        "annotations": [
            dict(id=n, image_id=i, category_id=label + 1, bbox=box, area=box[2] * box[3], iscrowd=0)
            for n, (i, box, label) in enumerate(entries, 1)
        ],
        "categories": [{"id": d + 1, "name": str(d)} for d in range(10)],
    }


def main() -> None:
    checkpoint, count = sys.argv[1], int((*sys.argv, 20)[2])
    paintings = [paint(seed) for seed in range(count)]
    truth = ground_truth(paintings)
    print(f"{count} images, {len(truth['annotations'])} digits")
    predictor = Predictor(None, checkpoint, device="cpu", threshold=0)
    for name, (tiles, nms_iou) in WAYS.items():
        predictor.tiles, predictor.model.nms_iou = tiles, nms_iou
        start, results = time.perf_counter(), []
        for i, (pixels, _) in enumerate(paintings):
            record = predictor.to_dict(predictor(pixels))
            results += [{"image_id": i, **entry} for entry in record["detections"]]
        seconds = (time.perf_counter() - start) / count
        scores = evaluate_detections(truth, results, max_dets=1000)
        shown = ("AP", "AP50", "APs", "APm", "APl", "AR100", "ARs", "ARm", "ARl")
        line = "  ".join(f"{key} {scores[key]:.1f}" for key in shown)
        print(f"{name}: {line}  {seconds:.2f} s an image", flush=True)


if __name__ == "__main__":
    main()
