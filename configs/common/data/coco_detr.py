"""COCO 2017 with DETR's augmentation: ``dataloader.{dataset, train, test, evaluator}``.

Your own COCO-format data: set ``dataloader.dataset``, here or on the command line (see custom.py).
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from omegaconf import OmegaConf

from detrex.config.schema import defaults
from detrex.data import DetrDatasetMapper, build_train_loader
from detrex.evaluation import COCOEvaluator


def _resize(short_edges, **limits):
    return L(T.ResizeShortestEdge)(short_edge_length=short_edges, **limits, sample_style="choice")


_TRAIN_EDGES = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]

dataloader = OmegaConf.create()

# name; train.{json, images}; val.{json, images}; skip_broken_images: see detrex/config/schema.py.
dataloader.dataset = defaults("dataloader.dataset")

dataloader.train = L(build_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names="coco_2017_train", filter_empty=True),
    mapper=L(DetrDatasetMapper)(
        augmentation=[L(T.RandomFlip)(), _resize(_TRAIN_EDGES, max_size=1333)],
        augmentation_with_crop=[
            L(T.RandomFlip)(),
            _resize([400, 500, 600]),
            L(T.RandomCrop)(crop_type="absolute_range", crop_size=[384, 600]),
            _resize(_TRAIN_EDGES, max_size=1333),
        ],
        is_train=True,
        mask_on=False,
        img_format="RGB",
    ),
    total_batch_size=16,
    num_workers=16,
    skip_broken="${..dataset.skip_broken_images}",
)

dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="coco_2017_val", filter_empty=False),
    mapper=L(DetrDatasetMapper)(
        augmentation=[L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333)],
        augmentation_with_crop=None,
        is_train=False,
        mask_on=False,
        img_format="RGB",
    ),
    num_workers=4,
)

dataloader.evaluator = L(COCOEvaluator)(dataset_name="${..test.dataset.names}")
