"""RT-DETRv2 with discrete sampling, ResNet-50-vd: 12 epochs more of an interpolating model.

    python projects/rt_detr/train_net.py --num-gpus 4 \
        --config-file projects/rt_detr/configs/rtdetrv2_r50vd_dsp_1x_coco.py

v2's other changes to the model are one of names. Its own recipe (shorter augmentation, rates by
backbone) is not repeated here; no figure is claimed.
"""

from .rtdetr_r50vd_6x_coco import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/rtdetrv2_r50vd.pth"
train.max_iter = "12ep"

model.transformer.decoder.discrete_sampling = True
