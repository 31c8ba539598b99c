"""Your own COCO-format data: copy this file, or give the same keys on the command line.

    dataloader.dataset.name=birds
    dataloader.dataset.train.json=data/birds/train.json dataloader.dataset.train.images=data/birds
    dataloader.dataset.val.json=data/birds/val.json dataloader.dataset.val.images=data/birds

The number of classes, the mapping of category ids and the class names come from the JSON; do not
set ``num_classes``. Train and val must list the same categories.
"""

from detrex.config import get_config

dataloader = get_config("common/data/coco_detr.py").dataloader

dataloader.dataset.name = "birds"
dataloader.dataset.train.json = "data/birds/train.json"
dataloader.dataset.train.images = "data/birds/images"  # file names in the JSON are relative to it
dataloader.dataset.val.json = "data/birds/val.json"
dataloader.dataset.val.images = "data/birds/images"

# True replaces images that do not decode by their neighbours, with a warning that names them.
dataloader.dataset.skip_broken_images = False

# Images without objects are left out of training by default; False trains on them as background.
dataloader.train.dataset.filter_empty = True

dataloader.train.total_batch_size = 16
dataloader.train.num_workers = 4
