"""Relation-DETR plus the four parts of Rank-DETR, each with its switch."""

from projects.rank_detr.modeling.rank_family import (
    RankRelationDETR,
    RankRelationDetrTransformerDecoder,
)

from ....relation_detr.configs.models.relation_detr_r50 import model as relation
from .rank_dino_r50 import model

model._target_ = RankRelationDETR
model.update(num_hybrid_queries=1500, k_hybrid=6)
model.neck.bias = False
model.transformer.encoder = relation.transformer.encoder
model.transformer.decoder._target_ = RankRelationDetrTransformerDecoder
model.transformer.decoder.box_relation = True

# Proposals and denoising queries keep varifocal loss and its factor; hybrid queries are as
# GIoU-aware as the others.
model.criterion.set_losses = dict(_enc="varifocal_detached_loss", _dn="varifocal_detached_loss")
model.criterion.weight_dict.loss_class_enc = 1.0
