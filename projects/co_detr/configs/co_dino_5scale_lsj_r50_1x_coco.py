"""Co-DINO, R50, five levels, large-scale jitter, 12 epochs.

    python projects/co_detr/train_net.py --num-gpus 8 \
        --config-file projects/co_detr/configs/co_dino_5scale_lsj_r50_1x_coco.py

No published figure that is known here; 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config

from .co_dino_5scale_r50_1x_coco import lr_multiplier, model, optimizer, train

dataloader = get_config("common/data/coco_lsj.py").dataloader
