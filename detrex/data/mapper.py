"""From a detectron2 dataset dict to what a detection transformer reads.

The constructor and the augmentation rule are those of detrex's ``DetrDatasetMapper``, which follows
DETR (https://arxiv.org/abs/2005.12872, appendix A.4).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances, PolygonMasks
from omegaconf import OmegaConf

from detrex.utils.errors import InputError
from detrex.utils.images import unreadable

from .image import AugInput, read_image, to_tensor

EMPTY = 1e-5  # pixels; detectron2's limit: a box with a smaller side is empty


class DetrDatasetMapper:
    """Read an image, augment it, and turn its annotations into ``Instances``.

    Args:
        augmentation: detectron2 augmentations, applied in order.
        augmentation_with_crop: a second list; in training each image takes one of the two with
            equal probability. None means that ``augmentation`` is always used.
        is_train: False drops the annotations, so evaluation needs none.
        mask_on: keep segmentations, as ``gt_masks``.
        img_format: channel order, "RGB" or "BGR". Grey, palette and CMYK files are converted.
        image_backend: "torchvision" decodes JPEG, flips and resizes with torchvision and leaves
            the rest to PIL, faster. "pil" gives detectron2's pixels to the last bit, to reproduce
            upstream's augmentation exactly. Randomness and boxes are the same with both, pixels
            differ by at most one grey level.
        large_scale_jitter: side of a square in pixels; a flip and :func:`jitter` then take the
            place of both lists. None: the lists.

    Raises InputError for an unknown ``image_backend``.

    Randomness comes from the global generators only, so the caller's seed decides it.
    """

    def __init__(
        self,
        augmentation: Sequence[T.Augmentation],
        augmentation_with_crop: Sequence[T.Augmentation] | None,
        is_train: bool = True,
        mask_on: bool = False,
        img_format: str = "RGB",
        image_backend: str = "torchvision",
        large_scale_jitter: int | None = None,
    ) -> None:
        if image_backend not in ("torchvision", "pil"):
            raise InputError(f"image_backend={image_backend!r} is unknown: use torchvision or pil")
        if large_scale_jitter is not None:
            augmentation = [T.RandomFlip(), *jitter(large_scale_jitter)]
            augmentation_with_crop = None
        self.augmentation = _plain(augmentation)
        self.augmentation_with_crop = augmentation_with_crop and _plain(augmentation_with_crop)
        self.is_train = is_train
        self.mask_on = mask_on
        self.img_format = img_format
        self._fast = image_backend == "torchvision"  # else exactly upstream's pixels

    def __call__(self, dataset_dict: dict) -> dict:
        """Return the dict with ``image`` added, and ``instances`` in training.

        ``image`` is uint8 (3, H, W), with "torchvision" a channels-last view. ``instances`` holds
        ``gt_boxes`` (G, 4), absolute x0, y0, x1, y1 on the augmented image, and ``gt_classes``
        (G,); crowd regions and boxes that augmentation left empty are not in it, and an image
        without objects has G = 0. ``height`` and ``width`` are the original image's.
        ``dataset_dict`` is not changed.

        Raises:
            InputError: the file does not decode or has another size than its annotation says.
        """
        record = dict(dataset_dict)
        record["image"], transforms = self.augment(self.read(record))
        annotations = record.pop("annotations", None)
        if self.is_train and annotations is not None:
            size = tuple(record["image"].shape[1:])
            record["instances"] = self._instances(annotations, transforms, size)
        return record

    def read(self, record: dict) -> np.ndarray:
        """Read a record's file, uint8 (H, W, 3); raises the errors of :meth:`__call__`."""
        try:
            image = read_image(record["file_name"], self.img_format, self._fast)
            detection_utils.check_image_size(record, image)
        except detection_utils.SizeMismatchError as error:
            raise InputError(str(error)) from error
        except InputError:
            raise
        except Exception as error:  # decoders raise anything: OSError, SyntaxError, IndexError ...
            raise unreadable(record["file_name"], error) from error
        return image

    def augment(self, pixels: np.ndarray) -> tuple[torch.Tensor, T.TransformList]:
        """Augment uint8 pixels (H, W, 3) in ``img_format``.

        Returns the model's input, uint8 (3, H, W), and what was done to the image.
        """
        steps = self.augmentation
        if self.is_train and self.augmentation_with_crop is not None and np.random.rand() <= 0.5:
            steps = self.augmentation_with_crop
        inputs = AugInput(pixels, self._fast)
        transforms = T.AugmentationList(steps)(inputs)
        image = to_tensor(inputs.image)
        return image if self._fast else image.contiguous(), transforms

    def _instances(
        self, annotations: list[dict], transforms: T.TransformList, size: tuple[int, int]
    ) -> Instances:
        objects = [annotation for annotation in annotations if not annotation.get("iscrowd", 0)]
        height, width = size
        boxes = transforms.apply_box(corners(objects)).clip(min=0)
        boxes = np.minimum(boxes, [width, height, width, height]).astype(np.float32)
        visible = (boxes[:, 2:] - boxes[:, :2] > EMPTY).all(axis=1)
        instances = Instances(size)
        if self.mask_on and objects and "segmentation" in objects[0]:
            masks = _masks(objects, transforms, size)
            visible &= masks.nonempty().numpy()
            instances.gt_masks = masks[torch.from_numpy(visible)]
        classes = np.array([annotation["category_id"] for annotation in objects], dtype=np.int64)
        instances.gt_classes = torch.from_numpy(classes[visible])
        instances.gt_boxes = Boxes(torch.from_numpy(boxes[visible]))
        return instances


def jitter(side: int) -> list[T.Augmentation]:
    """Large-scale jitter (Ghiasi et al., CVPR 2021): an image is resized to fit into 0.1 to 2 times
    a square of ``side`` pixels, of which at most the square is left. The model pads and masks."""
    return [
        T.ResizeScale(min_scale=0.1, max_scale=2.0, target_height=side, target_width=side),
        T.FixedSizeCrop(crop_size=(side, side), pad=False),
    ]


def _plain(augmentations: Sequence[T.Augmentation]) -> list[T.Augmentation]:
    """Augmentations without OmegaConf lists, which cost as much as a flip at every draw."""
    copies = [copy.copy(augmentation) for augmentation in augmentations]
    for augmentation in copies:
        for name, value in vars(augmentation).items():
            if OmegaConf.is_config(value):
                setattr(augmentation, name, OmegaConf.to_object(value))
    return copies


def corners(annotations: list[dict]) -> np.ndarray:
    """Return the boxes (G, 4) of annotations as x0, y0, x1, y1, float64.

    Never integers: detectron2 moves a box of Python ints in integers and so rounds it down.
    """
    modes = {annotation["bbox_mode"] for annotation in annotations}
    if len(modes) > 1:
        return np.concatenate([corners([annotation]) for annotation in annotations])
    boxes = np.array([annotation["bbox"] for annotation in annotations], dtype=np.float64)
    if modes == {BoxMode.XYWH_ABS}:
        boxes = boxes.astype(np.float32)  # as BoxMode.convert: its corners to the last bit
        boxes[:, 2:] += boxes[:, :2]
    elif modes - {BoxMode.XYXY_ABS}:
        boxes = BoxMode.convert(boxes.astype(np.float32), *modes, BoxMode.XYXY_ABS)
    return boxes.reshape(-1, 4).astype(np.float64)


def _masks(
    annotations: list[dict], transforms: T.TransformList, size: tuple[int, int]
) -> PolygonMasks:
    keys = ("bbox", "bbox_mode", "category_id", "segmentation")
    moved = [
        detection_utils.transform_instance_annotations(
            {key: annotation[key] for key in keys}, transforms, size
        )
        for annotation in annotations
    ]
    return detection_utils.annotations_to_instances(moved, size).gt_masks
