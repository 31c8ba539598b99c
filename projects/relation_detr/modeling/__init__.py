from projects.dino.modeling import DINOTransformer as RelationDetrTransformer

from .relation_detr import (
    RelationDETR,
    RelationDetrCriterion,
    RelationDetrTransformerDecoder,
    RelationDetrTransformerEncoder,
)

__all__ = [
    "RelationDETR",
    "RelationDetrCriterion",
    "RelationDetrTransformer",
    "RelationDetrTransformerDecoder",
    "RelationDetrTransformerEncoder",
]
