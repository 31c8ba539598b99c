"""COCO 2017 with large-scale jitter (Ghiasi et al., CVPR 2021): images of 0.1 to 2 times 1024
pixels, of which at most 1024 x 1024 are kept."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .coco_detr import dataloader

_SIDE = 1024

dataloader.train.mapper.augmentation = [
    L(T.RandomFlip)(),
    L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=_SIDE, target_width=_SIDE),
    L(T.FixedSizeCrop)(crop_size=(_SIDE, _SIDE), pad=False),  # the model pads, and masks that
]
dataloader.train.mapper.augmentation_with_crop = None
dataloader.test.mapper.augmentation = [
    L(T.ResizeShortestEdge)(short_edge_length=_SIDE, max_size=_SIDE)
]
