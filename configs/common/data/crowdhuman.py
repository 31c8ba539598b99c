"""CrowdHuman, whole bodies of people in crowds, with its scores: AP, MR^-2 and JI.

DETECTRON2_DATASETS holds crowdhuman/ with Images/*.jpg, of all archives, and
annotation_{train,val}.odgt. Once:

    python tools/check_dataset.py $DETECTRON2_DATASETS/crowdhuman \
        -o $DETECTRON2_DATASETS/crowdhuman_json

Boxes that leave their image are cut off at its edge, in training and for the scores.
"""

import os

from detectron2.config import LazyCall as L

from detrex.config import get_config
from detrex.evaluation import CrowdEvaluator

dataloader = get_config("common/data/coco_detr.py").dataloader

_root = os.environ.get("DETECTRON2_DATASETS", "datasets")
_json = f"{_root}/crowdhuman_json"
dataloader.dataset.name = "crowdhuman"
dataloader.dataset.train = dict(json=f"{_json}/train.json", images=f"{_root}/crowdhuman/Images")
dataloader.dataset.val = dict(json=f"{_json}/val.json", images=f"{_root}/crowdhuman/Images")
dataloader.evaluator = L(CrowdEvaluator)(dataset_name="${..test.dataset.names}")
