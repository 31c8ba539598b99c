"""The dataset mapper with torchvision's augmentations in place of detectron2's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torchvision import tv_tensors
from torchvision.transforms import v2

from .image import to_tensor
from .mapper import DetrDatasetMapper, corners
from .windows import Window


class TorchvisionMapper(DetrDatasetMapper):
    """For training: reads an image and transforms it and its boxes with torchvision.

    Boxes that a transform leaves empty stay: end with ``SanitizeBoundingBoxes``.

    Args:
        transforms: of torchvision.transforms.v2, applied in order.
        img_format: channel order, "RGB" or "BGR".
        windows: further augmentations, each of some iterations of the run.

    Attributes:
        iter: the iteration; the loader sets it.
        further: returns a random image of the data set, through the function that it takes; the
            loader sets it. None: outside of a loader.
    """

    iter = 0
    further: Callable[[Callable[[dict], dict]], dict] | None = None

    def __init__(
        self,
        transforms: Sequence[v2.Transform],
        img_format: str = "RGB",
        windows: Sequence[Window] = (),
    ) -> None:
        super().__init__([], None, is_train=True, img_format=img_format)
        self.transforms = list(transforms)
        self.windows = list(windows)

    @property
    def window(self) -> Window:
        """The window of the present iteration; one without augmentations if there is none."""
        return next((window for window in self.windows if window.holds(self.iter)), Window())

    def __call__(self, dataset_dict: dict) -> dict:
        """As :class:`DetrDatasetMapper`."""
        record = dict(dataset_dict)
        sample = {**self.load(record), "further": self.further}
        for transform in (*self.window.transforms, *self.transforms):
            sample = transform(sample)
        record.pop("annotations", None)
        record["image"] = sample["image"].as_subclass(torch.Tensor)
        boxes = Boxes(sample["boxes"].as_subclass(torch.Tensor))
        size = tuple(record["image"].shape[1:])
        record["instances"] = Instances(size, gt_boxes=boxes, gt_classes=sample["labels"])
        return record

    def load(self, record: dict) -> dict:
        """Read a record's image and boxes, without its crowd regions: ``image``, ``boxes``,
        ``labels`` and ``file_name``. The record gets a size if it has none."""
        pixels = to_tensor(self.read(record))
        objects = [x for x in record.get("annotations", []) if not x.get("iscrowd", 0)]
        boxes = tv_tensors.BoundingBoxes(
            torch.from_numpy(corners(objects).astype(np.float32)),
            format="XYXY",
            canvas_size=tuple(pixels.shape[1:]),
        )
        labels = torch.tensor([x["category_id"] for x in objects], dtype=torch.int64)
        image = tv_tensors.Image(pixels)
        return {
            "image": image,
            "boxes": boxes,
            "labels": labels,
            "file_name": str(record["file_name"]),
        }
