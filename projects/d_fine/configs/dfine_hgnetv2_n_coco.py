"""D-FINE-N, HGNetv2-B0, two levels, three decoder layers, 160 epochs.

    python projects/d_fine/train_net.py --num-gpus 4 \
        --config-file projects/d_fine/configs/dfine_hgnetv2_n_coco.py

Published: 42.8 AP (README of D-FINE); 128 images an iteration.
"""

from detrex.config import get_config

from .dfine_hgnetv2_l_coco import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/hgnetv2_b0.pth"
train.max_iter = "160ep"
dataloader.train.total_batch_size = 128

model.update(get_config("common/models/hgnetv2.py").n)
model.update(embed_dim=128, train_sizes=[])  # all batches at 640 pixels
model.transformer.decoder.update(
    embed_dim=128, feedforward_dim=512, num_layers=3, num_points=[6, 6]
)
optimizer.update(lr=8e-4, weight_decay=1e-4)
optimizer.params.weight_decay_bias = 0.0
optimizer.params.lr_factors[0].factor = 0.5
