"""LVIS v1, 1,203 classes with few examples of most, scored federated: AP, APr, APc, APf.

DETECTRON2_DATASETS holds coco/{train2017,val2017}/*.jpg and lvis/lvis_v1_{train,val}.json. Images
with rare classes come more often (Gupta et al. 2019, appendix B.2), and 300 detections of an image
count.
"""

import os

from detectron2.config import LazyCall as L

from detrex.config import get_config
from detrex.evaluation import LVISEvaluator

dataloader = get_config("common/data/coco_detr.py").dataloader

_root = os.environ.get("DETECTRON2_DATASETS", "datasets")
dataloader.dataset.name = "lvis"
dataloader.dataset.train = dict(json=f"{_root}/lvis/lvis_v1_train.json", images=f"{_root}/coco")
dataloader.dataset.val = dict(json=f"{_root}/lvis/lvis_v1_val.json", images=f"{_root}/coco")
dataloader.train.repeat_threshold = 0.001
dataloader.evaluator = L(LVISEvaluator)(dataset_name="${..test.dataset.names}")
