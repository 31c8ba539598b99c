"""A small Rank-DETR for two CPU cores: strides 8 to 32, one encoder and three decoder layers."""

from detrex.config import get_config

from .rank_detr_r50 import model

model.backbone = model.neck.input_shapes = None
model.merge_with(get_config("common/models/efficientnet_lite0.py").small)

model.with_box_refine = True
model.as_two_stage = True
model.num_queries_one2one = 40
model.num_queries_one2many = 120
model.k_one2many = 4
model.transformer.two_stage_num_proposals = 160
