"""The dataset mapper with torchvision's augmentations in place of detectron2's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torchvision import tv_tensors
from torchvision.transforms import v2

from .image import to_tensor
from .mapper import DetrDatasetMapper, corners


class TorchvisionMapper(DetrDatasetMapper):
    """For training: reads an image and transforms it and its boxes with torchvision.

    Boxes that a transform leaves empty stay: end with ``SanitizeBoundingBoxes``.

    Args:
        transforms: of torchvision.transforms.v2, applied in order.
        img_format: channel order, "RGB" or "BGR".
    """

    def __init__(self, transforms: Sequence[v2.Transform], img_format: str = "RGB") -> None:
        super().__init__([], None, is_train=True, img_format=img_format)
        self.transforms = v2.Compose(list(transforms))

    def __call__(self, dataset_dict: dict) -> dict:
        """As :class:`DetrDatasetMapper`."""
        record = dict(dataset_dict)
        pixels = to_tensor(self.read(record))
        objects = [x for x in record.pop("annotations", []) if not x.get("iscrowd", 0)]
        boxes = tv_tensors.BoundingBoxes(
            torch.from_numpy(corners(objects).astype(np.float32)),
            format="XYXY",
            canvas_size=tuple(pixels.shape[1:]),
        )
        labels = torch.tensor([x["category_id"] for x in objects], dtype=torch.int64)
        sample = {"image": tv_tensors.Image(pixels), "boxes": boxes, "labels": labels}
        sample = self.transforms(sample)
        record["image"] = sample["image"].as_subclass(torch.Tensor)
        boxes = Boxes(sample["boxes"].as_subclass(torch.Tensor))
        size = tuple(record["image"].shape[1:])
        record["instances"] = Instances(size, gt_boxes=boxes, gt_classes=sample["labels"])
        return record
