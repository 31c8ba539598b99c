"""Open Images V6 or V7, its 601 boxable classes.

DETECTRON2_DATASETS holds open_images/ with train/, validation/ (<ImageID>.jpg),
class-descriptions-boxable.csv, oidv6-train-annotations-bbox.csv and
validation-annotations-bbox.csv; a part of the images will do. Once, reading the size of every one:

    python tools/check_dataset.py $DETECTRON2_DATASETS/open_images \
        -o $DETECTRON2_DATASETS/open_images_json

Scores are COCO's, with boxes around groups as crowd regions: not the challenge's metric, which
adds the parents of each class and knows which classes were looked for in an image.
"""

import os

from detrex.config import get_config

dataloader = get_config("common/data/coco_detr.py").dataloader

_root = os.environ.get("DETECTRON2_DATASETS", "datasets")
_json = f"{_root}/open_images_json"
dataloader.dataset.name = "open_images"
dataloader.dataset.train = dict(json=f"{_json}/train.json", images=f"{_root}/open_images/train")
dataloader.dataset.val = dict(json=f"{_json}/val.json", images=f"{_root}/open_images/validation")
