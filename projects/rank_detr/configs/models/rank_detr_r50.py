"""H-Deformable-DETR plus the four parts of Rank-DETR, each with its switch."""

from detectron2.config import LazyCall as L

from projects.rank_detr.modeling import (
    HighOrderMatcher,
    RankDETR,
    RankDetrCriterion,
    RankDetrTransformer,
    RankDetrTransformerDecoder,
    RankDetrTransformerEncoder,
)

from ....h_deformable_detr.configs.models.h_deformable_detr_r50 import model

# Rank-adaptive classification head: a class bias by rank.
model._target_ = RankDETR
model.rank_adaptive_classhead = True

_shared = dict(
    num_queries_one2one="${..num_queries_one2one}",
    num_queries_one2many="${..num_queries_one2many}",
    rank_adaptive_classhead="${..rank_adaptive_classhead}",
)
model.transformer._target_ = RankDetrTransformer
model.transformer.update(_shared)
model.transformer.encoder._target_ = RankDetrTransformerEncoder

# Query rank layer: sort the queries and fuse a learned embedding of the rank.
model.transformer.decoder._target_ = RankDetrTransformerDecoder
model.transformer.decoder.update(_shared, query_rank_layer=True)
model.transformer.decoder.two_stage_num_proposals = "${..two_stage_num_proposals}"

# GIoU-aware classification loss.
model.criterion._target_ = RankDetrCriterion
model.criterion.GIoU_aware_class_loss = True

# High-order matching cost for the last quarter of training; None never switches.
model.criterion.matcher = L(HighOrderMatcher)(
    **model.criterion.matcher,
    iou_order_alpha=4.0,
    matcher_change_iter=0.75,
    max_iter="${train.max_iter}",
)
