"""COCO 2017 with large-scale jitter (Ghiasi et al., CVPR 2021): images of 0.1 to 2 times 1024
pixels, of which at most 1024 x 1024 are kept."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .coco_detr import dataloader

_SIDE = 1024

dataloader.train.mapper.large_scale_jitter = _SIDE
dataloader.test.mapper.augmentation = [
    L(T.ResizeShortestEdge)(short_edge_length=_SIDE, max_size=_SIDE)
]
