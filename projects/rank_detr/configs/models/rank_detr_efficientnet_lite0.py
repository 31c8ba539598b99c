"""A small Rank-DETR for two CPU cores: strides 8 to 32, one encoder and three decoder layers."""

from detrex.config import get_config

from .rank_detr_r50 import model

_small = get_config("common/models/efficientnet_lite0.py")
model.backbone = _small.backbone
model.neck.update(_small.neck)
model.update(_small.pixels)
model.transformer.num_feature_levels = 3
model.transformer.encoder.update(_small.encoder)
model.transformer.decoder.update(_small.decoder)

model.with_box_refine = True
model.as_two_stage = True
model.num_queries_one2one = 40
model.num_queries_one2many = 120
model.k_one2many = 4
model.transformer.two_stage_num_proposals = 160
model.select_box_nums_for_evaluation = 100
model.criterion.matcher.matcher_change_iter = None
