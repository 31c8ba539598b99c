import torch
from detectron2.config import LazyCall as L
from detectron2.solver.build import get_default_optimizer_params

from detrex.train.optim import param_groups

# Upstream's defaults: one learning rate, no decay on norms. The published runs of upstream's
# projects set AdamW's weight decay to 1e-4.
SGD = L(torch.optim.SGD)(
    params=L(get_default_optimizer_params)(weight_decay_norm=0.0),
    lr=0.02,
    momentum=0.9,
    weight_decay=1e-4,
)
AdamW = L(torch.optim.AdamW)(
    params=L(get_default_optimizer_params)(base_lr="${..lr}", weight_decay_norm=0.0),
    lr=1e-4,
    betas=(0.9, 0.999),
    weight_decay=0.1,
)

# The recipe behind the published numbers of the deformable family (upstream: hidden in its
# train_net.py): decay on everything, also norms, biases and tables.
AdamW_deformable = L(torch.optim.AdamW)(
    params=L(param_groups)(
        base_lr="${..lr}",
        lr_factors=[
            dict(names=["backbone"], factor=0.1),
            dict(names=["reference_points", "sampling_offsets"], factor=0.1),
        ],
    ),
    lr=2e-4,
    betas=(0.9, 0.999),
    weight_decay=1e-4,
)
