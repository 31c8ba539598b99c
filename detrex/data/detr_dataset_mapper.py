"""From a detectron2 dataset dict to what a detection transformer reads.

The constructor and the augmentation rule are those of detrex's ``DetrDatasetMapper``, which follows
DETR (https://arxiv.org/abs/2005.12872, appendix A.4).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import Instances

from detrex.utils.errors import InputError


class DetrDatasetMapper:
    """Read an image, augment it, and turn its annotations into ``Instances``.

    Args:
        augmentation: detectron2 augmentations, applied in order.
        augmentation_with_crop: a second list; in training each image takes one of the two with
            equal probability. None means that ``augmentation`` is always used.
        is_train: False drops the annotations, so evaluation needs none.
        mask_on: keep segmentations, as ``gt_masks``.
        img_format: channel order, "RGB" or "BGR". Grey, palette and CMYK files are converted.

    Randomness comes from the global generators only, so the caller's seed decides it.
    """

    def __init__(
        self,
        augmentation: Sequence[T.Augmentation],
        augmentation_with_crop: Sequence[T.Augmentation] | None,
        is_train: bool = True,
        mask_on: bool = False,
        img_format: str = "RGB",
    ):
        # Plain lists: an OmegaConf list costs milliseconds to iterate over for every image.
        self.augmentation = list(augmentation)
        self.augmentation_with_crop = augmentation_with_crop and list(augmentation_with_crop)
        self.is_train = is_train
        self.mask_on = mask_on
        self.img_format = img_format

    def __call__(self, dataset_dict: dict) -> dict:
        """Return the dict with ``image`` added, and ``instances`` in training.

        ``image`` is uint8 (3, H, W). ``instances`` holds ``gt_boxes`` (G, 4), absolute x0, y0, x1,
        y1 on the augmented image, and ``gt_classes`` (G,); boxes that augmentation left empty and
        crowd regions are not in it, and an image without objects has G = 0. ``height`` and
        ``width`` are the original image's. The given dict is not changed.

        Raises:
            InputError: the file does not decode or has another size than its annotation says.
        """
        record = dict(dataset_dict)
        inputs = T.AugInput(self._read(record))
        transforms = T.AugmentationList(self._pick_augmentation())(inputs)
        record["image"] = torch.as_tensor(np.ascontiguousarray(inputs.image.transpose(2, 0, 1)))
        annotations = record.pop("annotations", None)
        if self.is_train and annotations is not None:
            record["instances"] = self._instances(annotations, transforms, inputs.image.shape[:2])
        return record

    def _read(self, record: dict) -> np.ndarray:  # (H, W, 3)
        try:
            image = detection_utils.read_image(record["file_name"], format=self.img_format)
            detection_utils.check_image_size(record, image)
        except detection_utils.SizeMismatchError as error:
            raise InputError(str(error)) from error
        except Exception as error:  # decoders raise anything: OSError, SyntaxError, IndexError ...
            reason = " ".join(str(error).split())
            raise InputError(f"{record['file_name']}: not a readable image ({reason})") from error
        return image

    def _pick_augmentation(self) -> list[T.Augmentation]:
        if not self.is_train or self.augmentation_with_crop is None or np.random.rand() > 0.5:
            return self.augmentation
        return self.augmentation_with_crop

    def _instances(self, annotations: list[dict], transforms, size: tuple[int, int]) -> Instances:
        unused = {"keypoints"} if self.mask_on else {"keypoints", "segmentation"}
        moved = [
            detection_utils.transform_instance_annotations(
                {key: value for key, value in annotation.items() if key not in unused},
                transforms,
                size,
            )
            for annotation in annotations
            if not annotation.get("iscrowd", 0)
        ]
        instances = detection_utils.annotations_to_instances(moved, size)
        return detection_utils.filter_empty_instances(instances)
