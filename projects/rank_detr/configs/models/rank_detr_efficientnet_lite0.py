"""A small Rank-DETR for two CPU cores: strides 8 to 32, one encoder and three decoder layers."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from detrex.modeling.backbone import TimmBackbone

from .rank_detr_r50 import model

model.backbone = L(TimmBackbone)(
    model_name="efficientnet_lite0",
    out_indices=(2, 3, 4),
    frozen_prefixes=["conv_stem", "bn1", "blocks.0", "blocks.1"],
    frozen_norm=True,
)
model.neck.in_features = ["p2", "p3", "p4"]
model.neck.input_shapes = {
    "p2": ShapeSpec(channels=40),
    "p3": ShapeSpec(channels=112),
    "p4": ShapeSpec(channels=320),
}
model.neck.num_outs = 3
# These weights were trained with pixels in [-1, 1].
model.pixel_mean = [127.0, 127.0, 127.0]
model.pixel_std = [128.0, 128.0, 128.0]

model.transformer.num_feature_levels = 3
model.transformer.encoder.update(num_layers=1, feedforward_dim=512)
model.transformer.decoder.update(num_layers=3, feedforward_dim=512)

model.with_box_refine = True
model.as_two_stage = True
model.num_queries_one2one = 40
model.num_queries_one2many = 120
model.k_one2many = 4
model.transformer.two_stage_num_proposals = 160
model.select_box_nums_for_evaluation = 100
model.criterion.matcher.matcher_change_iter = None
