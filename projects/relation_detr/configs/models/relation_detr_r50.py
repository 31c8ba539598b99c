"""Relation-DETR, R50, four levels."""

from projects.relation_detr.modeling import (
    RelationDETR,
    RelationDetrCriterion,
    RelationDetrTransformerDecoder,
    RelationDetrTransformerEncoder,
)

from ....dino.configs.models.dino_r50 import model

model._target_ = RelationDETR
model.update(num_hybrid_queries=1500, k_hybrid=6)
model.neck.bias = False
model.transformer.encoder._target_ = RelationDetrTransformerEncoder
model.transformer.decoder._target_ = RelationDetrTransformerDecoder
model.transformer.decoder.box_relation = True
model.criterion._target_ = RelationDetrCriterion
model.criterion.update(loss_class_type="varifocal_detached_loss")
