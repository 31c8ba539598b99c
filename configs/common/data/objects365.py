"""Objects365 V2, 365 classes: to train on before COCO or one's own data.

DETECTRON2_DATASETS holds objects365/ with {train,val}/patch<n>/*.jpg and
annotations/zhiyuan_objv2_{train,val}.json. Once:

    python tools/check_dataset.py $DETECTRON2_DATASETS/objects365 \
        -o $DETECTRON2_DATASETS/objects365_json

A fine-tuning that starts from such a checkpoint takes classes over by name.
"""

import os

from detrex.config import get_config

dataloader = get_config("common/data/coco_detr.py").dataloader

_root = os.environ.get("DETECTRON2_DATASETS", "datasets")
_json = f"{_root}/objects365_json"
dataloader.dataset.name = "objects365"
dataloader.dataset.train = dict(json=f"{_json}/train.json", images=f"{_root}/objects365/train")
dataloader.dataset.val = dict(json=f"{_json}/val.json", images=f"{_root}/objects365/val")
