"""Large-scale jitter: scales of 0.1 to 2 times 1024 pixels, at most 1024 of them kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from detrex.config import get_config
from detrex.data import DetrDatasetMapper


def test_images_are_scaled_then_cropped_and_boxes_follow(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    Image.fromarray(np.full((300, 600, 3), 9, np.uint8)).save(path)
    box = {"bbox": [150, 75, 450, 225], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 3}
    record = {"file_name": str(path), "height": 300, "width": 600, "annotations": [box]}
    dataloader = get_config("common/data/coco_lsj.py").dataloader
    mapper = instantiate(dataloader.train.mapper)
    widths, boxes = [], []
    for seed in range(12):
        np.random.seed(seed)
        found = mapper(record)
        height, width = found["image"].shape[1:]
        assert max(height, width) <= 1024
        widths.append(width)
        if width < 1024:  # nothing was cut off, and the box is symmetric under a flip
            scale = np.array([width, height, width, height])
            np.testing.assert_allclose(
                found["instances"].gt_boxes.tensor[0].numpy() / scale,
                [0.25, 0.25, 0.75, 0.75],
                atol=1e-3,
            )
            boxes.append(seed)
    assert len(boxes) > 2 and widths.count(1024) > 2 and min(widths) >= 102
    assert instantiate(dataloader.test.mapper)(record)["image"].shape == (3, 512, 1024)


def test_any_config_may_jitter() -> None:
    lists = dict(augmentation=[T.RandomRotation(3)], augmentation_with_crop=[T.RandomFlip()])
    mapper = DetrDatasetMapper(**lists, large_scale_jitter=64)
    flip, scale, crop = mapper.augmentation
    assert type(flip) is T.RandomFlip and mapper.augmentation_with_crop is None
    assert (scale.min_scale, scale.max_scale, scale.target_height) == (0.1, 2.0, 64)
    assert tuple(crop.crop_size) == (64, 64)
