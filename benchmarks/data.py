"""The training and test mapper of the COCO configs against PIL and detectron2's functions.

Photographs of scikit-image as 640x480 JPEG files; one thread, one process, equal random draws.
The clock is that thread's CPU time: what an image costs a core, also on a machine in use.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage.data
import torch
from detectron2.config import instantiate
from detectron2.structures import BoxMode
from omegaconf import DictConfig
from PIL import Image

from benchmarks.baseline.data import plain_mapper
from detrex.config import get_config

GOAL = 3.4  # times faster in training
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
OBJECTS = 7  # the mean of COCO
DRAWS = 24  # augmentations of every photograph


def photographs(folder: str, size: tuple[int, int] = (640, 480)) -> list[dict]:
    """Write the pictures (JPEG, quality 95) and return dataset dicts with random boxes."""
    random, records = np.random.RandomState(0), []
    for name in PHOTOGRAPHS:
        path = Path(folder) / f"{name}.jpg"
        picture = Image.fromarray(getattr(skimage.data, name)())
        picture.resize(size, Image.Resampling.BICUBIC).save(path, quality=95)
        corners = random.rand(OBJECTS, 2, 2) * size
        boxes = np.concatenate([corners.min(1), np.ptp(corners, axis=1)], axis=1)  # x, y, w, h
        common = {"bbox_mode": BoxMode.XYWH_ABS, "category_id": 3, "iscrowd": 0}
        annotations = [{"bbox": box, **common} for box in boxes.tolist()]
        record = {"file_name": str(path), "width": size[0], "height": size[1]}
        records.append(record | {"annotations": annotations})
    return records


def compare(baseline: Callable, ours: Callable, record: dict, seed: int) -> int:
    """The largest difference in grey levels; ValueError if it is above 1 or boxes differ."""
    samples = []
    for mapper in (baseline, ours):
        np.random.seed(seed)
        samples.append(mapper(record))
    images = [sample["image"].int() for sample in samples]
    difference = (images[0] - images[1]).abs().max().item()
    if difference > 1:
        raise ValueError(f"the mappers' images differ by {difference} grey levels")
    if "instances" in samples[0]:
        boxes = [sample["instances"].gt_boxes.tensor for sample in samples]
        if not torch.equal(*boxes):
            raise ValueError("the mappers' boxes differ")
    return difference


def time_mapper(config: DictConfig, records: list[dict], crop: bool, repeats: int) -> dict:
    """Seconds per image of both sides: the mean over samples of the median over repeats."""
    arguments = instantiate(config)
    if not crop:
        arguments.augmentation_with_crop = None
    pair = (
        functools.partial(
            plain_mapper,
            augmentation=arguments.augmentation,
            augmentation_with_crop=arguments.augmentation_with_crop,
            is_train=arguments.is_train,
        ),
        arguments,
    )
    samples = range(DRAWS * len(records))
    times = np.empty((repeats, 2, len(samples)))
    # whole passes alternate, not images: a loader runs one mapper with warm caches
    for repeat, (side, mapper), sample in itertools.product(
        range(repeats), enumerate(pair), samples
    ):
        np.random.seed(sample)
        start = time.thread_time()
        mapper(records[sample % len(records)])
        times[repeat, side, sample] = time.thread_time() - start
    levels = max(compare(*pair, records[sample % len(records)], sample) for sample in samples)
    baseline, ours = np.median(times, axis=0).mean(axis=1).tolist()
    row = {"baseline_s": baseline, "ours_s": ours, "ratio": baseline / ours}
    return row | {"max_grey_levels": levels, "images_per_s": 1 / ours}


def run(repeats: int = 5) -> list[dict]:
    """One row per mapper: seconds per image of both sides and their ratio."""
    loaders = get_config("common/data/coco_detr.py").dataloader
    cases = (
        ("training, half of the images cropped", loaders.train.mapper, True, {"goal": GOAL}),
        ("training, without the crop branch", loaders.train.mapper, False, {}),
        ("test, short edge 800", loaders.test.mapper, True, {}),
    )
    with tempfile.TemporaryDirectory() as folder:
        records = photographs(folder)
        size = sum(Path(r["file_name"]).stat().st_size for r in records) / len(records)
        return [
            {"what": f"data, 640x480 JPEG of {size / 1000:.0f} KB, {OBJECTS} objects, {name}"}
            | time_mapper(config, records, crop, repeats)
            | goal
            for name, config, crop, goal in cases
        ]
