"""Augmentations that make one training image of several, for more objects an image (Dense O2O:
DEIM, Huang et al. 2025, section 3.2).

A sample is the dict that torchvision's transforms see: ``image`` (3, H, W), ``boxes`` (G, 4) as
corners in pixels, ``labels`` (G,), ``file_name``, and ``further``, which reads a random image of
the data set. A record is what the model sees: ``image`` and ``instances``.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from detrex.utils.errors import InputError

LONGEST = 32  # of a tile, in its shorter sides: a line of pixels would fill the memory


class Mosaic:
    """Four images in a square of two by two, each at the upper left of its quarter, on black.

    The image and three others, drawn with replacement from the whole data set, are resized to a
    shorter side of ``size`` pixels. The widest and the highest of them decide the quarters.
    """

    def __init__(self, size: int = 320) -> None:
        self.size = size

    def __call__(self, sample: dict) -> dict:
        """The sample with the image and the boxes of four.

        Raises:
            InputError: an image too small to be a tile.
        """
        tiles = [self.tile(sample), *(sample["further"](self.tile) for _ in range(3))]
        height, width = (max(tile["image"].shape[i] for tile in tiles) for i in (1, 2))
        canvas = tiles[0]["image"].new_zeros(3, 2 * height, 2 * width)
        boxes = []
        for i, tile in enumerate(tiles):
            top, left = i // 2 * height, i % 2 * width
            h, w = tile["image"].shape[1:]
            canvas[:, top : top + h, left : left + w] = tile["image"]
            corner = torch.tensor([left, top, left, top])
            boxes.append(tile["boxes"].as_subclass(Tensor) + corner)
        size = tuple(canvas.shape[1:])
        return {
            **sample,
            "image": tv_tensors.Image(canvas),
            "boxes": tv_tensors.BoundingBoxes(torch.cat(boxes), format="XYXY", canvas_size=size),
            "labels": torch.cat([tile["labels"] for tile in tiles]),
        }

    def tile(self, sample: dict) -> dict:
        """The sample resized for its quarter."""
        height, width = sample["image"].shape[1:]
        if LONGEST * min(height, width) < max(height, width):
            raise InputError(
                f"{sample['file_name']}: {width} x {height} pixels are too small for a tile of "
                f"dataloader.train.mapper.windows' Mosaic(size={self.size}): leave the image out, "
                "or set dataloader.dataset.skip_broken_images=True"
            )
        resized = {name: F.resize(sample[name], [self.size]) for name in ("image", "boxes")}
        return {**sample, **resized}


class PairTransform(ABC):
    """Makes one record of a record and the one before it in its batch (of the first: the last).

    The processes of a run draw the same for a batch, so each needs one record of another at most.

    Args:
        p: share of batches that are changed.
        ratio: limits of the weight of an image against the one before it.
    """

    def __init__(self, p: float = 0.5, ratio: tuple[float, float] = (0.45, 0.55)) -> None:
        self.p, self.ratio = p, tuple(ratio)

    def draw(self) -> float | None:
        """The weight for all images of a batch; None: they stay as they are."""
        is_drawn, weight = random.random() < self.p, round(random.uniform(*self.ratio), 6)
        return weight if is_drawn else None

    def __call__(self, record: dict, before: dict, weight: float) -> dict:
        """The changed record; both stay as they are.

        Raises:
            InputError: images of different sizes.
        """
        sizes = [tuple(x["image"].shape[1:]) for x in (record, before)]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"dataloader.train.mapper.windows: {type(self).__name__} needs images of one size, "
                f"got {sizes[0]} and {sizes[1]}: end dataloader.train.mapper.transforms with "
                "Resize(size=[640, 640])"
            )
        image, more = self.mix(record["image"], before["image"], before["instances"], weight)
        instances = Instances.cat([record["instances"], more])
        return {**record, "image": image, "instances": instances}

    @abstractmethod
    def mix(
        self, image: Tensor, before: Tensor, objects: Instances, weight: float
    ) -> tuple[Tensor, Instances]:
        """The mixed image, and those of the other's objects that are in it."""


class MixUp(PairTransform):
    """Both images in one, with the objects of both (Zhang et al. 2018)."""

    def mix(
        self, image: Tensor, before: Tensor, objects: Instances, weight: float
    ) -> tuple[Tensor, Instances]:
        return blend(image, before, weight), objects


class CopyBlend(PairTransform):
    """Some objects of the image before, blended in at random places (DEIMv2, Huang et al. 2025).

    There the objects come from the whole batch.

    Args:
        objects: how many at most.
        min_area: square pixels of an object's box.
        margin: limits of what is taken along on each side of a box, in its width and height.
    """

    def __init__(
        self,
        p: float = 0.5,
        ratio: tuple[float, float] = (0.45, 0.55),
        objects: int = 3,
        min_area: float = 100.0,
        margin: tuple[float, float] = (0.1, 0.25),
    ) -> None:
        super().__init__(p, ratio)
        self.objects, self.min_area, self.margin = objects, min_area, tuple(margin)

    def mix(
        self, image: Tensor, before: Tensor, objects: Instances, weight: float
    ) -> tuple[Tensor, Instances]:
        large = (objects.gt_boxes.area() >= self.min_area).nonzero()[:, 0]
        chosen = objects[large[torch.randperm(len(large))[: self.objects]]]
        image = image.clone()
        boxes = [self._paste(image, before, box, weight) for box in chosen.gt_boxes.tensor.tolist()]
        chosen.gt_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        return image, chosen

    def _paste(self, image: Tensor, before: Tensor, box: list[float], weight: float) -> list[float]:
        """Blend what a box of the image before frames into the image; return its box there."""
        margin = random.uniform(*self.margin)
        spans, shifts = [], []
        for low, high, end in zip(box[:2], box[2:], (image.shape[2], image.shape[1]), strict=True):
            shift = random.randint(math.ceil(-low), max(math.floor(end - high), math.ceil(-low)))
            more = margin * (high - low)
            first = max(math.floor(low - more), 0, -shift)
            spans.append((first, min(math.ceil(high + more), end, end - shift)))
            shifts.append(shift)
        (left, right), (top, bottom) = spans
        dx, dy = shifts
        target = image[:, top + dy : bottom + dy, left + dx : right + dx]
        target.copy_(blend(target, before[:, top:bottom, left:right], weight))
        return [box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy]


def blend(image: Tensor, before: Tensor, weight: float) -> Tensor:
    """``weight * image + (1 - weight) * before``, to whole grey levels."""
    return torch.lerp(before.float(), image.float(), weight).round().to(image.dtype)
