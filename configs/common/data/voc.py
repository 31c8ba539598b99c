"""PASCAL VOC 2007 and 2012: training on both trainval sets, scores on 2007's test set.

DETECTRON2_DATASETS holds VOCdevkit/, as the archives unpack. Once:

    python tools/check_dataset.py $DETECTRON2_DATASETS/VOCdevkit -o $DETECTRON2_DATASETS/voc_json

Scores are COCO's. AP50 is VOC's AP by area, except that objects marked difficult count.
"""

import os

from detrex.config import get_config

dataloader = get_config("common/data/coco_detr.py").dataloader

_root = os.environ.get("DETECTRON2_DATASETS", "datasets")
_json = f"{_root}/voc_json"
dataloader.dataset.name = "voc"
dataloader.dataset.train = dict(json=f"{_json}/train.json", images=f"{_root}/VOCdevkit")
dataloader.dataset.val = dict(json=f"{_json}/val.json", images=f"{_root}/VOCdevkit")
