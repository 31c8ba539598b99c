"""The training mapper as detectron2's library functions give it: PIL, one annotation at a time."""

from __future__ import annotations

import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T


def plain_mapper(
    record: dict, augmentation: list, augmentation_with_crop: list | None, is_train: bool = True
) -> dict:
    """The augmented sample: ``image`` uint8 (3, H, W) contiguous, and ``instances`` in training.

    Draws from numpy's global generator in the order of ``DetrDatasetMapper``.
    """
    record = dict(record)
    inputs = T.AugInput(detection_utils.read_image(record["file_name"], format="RGB"))
    plain = not is_train or augmentation_with_crop is None or np.random.rand() > 0.5
    moves = T.AugmentationList(augmentation if plain else augmentation_with_crop)(inputs)
    record["image"] = torch.as_tensor(np.ascontiguousarray(inputs.image.transpose(2, 0, 1)))
    size = inputs.image.shape[:2]
    annotations = record.pop("annotations")
    if is_train:
        moved = [
            detection_utils.transform_instance_annotations(dict(annotation), moves, size)
            for annotation in annotations
            if not annotation["iscrowd"]
        ]
        instances = detection_utils.annotations_to_instances(moved, size)
        record["instances"] = detection_utils.filter_empty_instances(instances)
    return record
