"""D-FINE-L plus the four parts of Rank-DETR, each with its switch."""

from detectron2.config import LazyCall as L

from detrex.modeling.matcher import HighOrderMatcher
from projects.rank_d_fine.modeling import (
    RankDFINE,
    RankDFINECriterion,
    RankDFINETransformerDecoder,
)

from ....d_fine.configs.models.dfine_hgnetv2 import model

# Rank-adaptive classification head: a class bias by rank.
model._target_ = RankDFINE
model.rank_adaptive_classhead = True

# Query rank layer: sort the queries and fuse a learned embedding of the rank.
model.transformer.decoder._target_ = RankDFINETransformerDecoder
model.transformer.decoder.update(
    num_queries="${...num_queries}",
    rank_adaptive_classhead="${...rank_adaptive_classhead}",
    query_rank_layer=True,
)

# GIoU-aware classification loss, not for denoising queries.
model.criterion._target_ = RankDFINECriterion
model.criterion.update(GIoU_aware_class_loss=True, GIoU_aware_denoising=False)
model.criterion.weight_dict.update(loss_class=2.0, loss_class_dn=1.0, loss_class_enc=1.0)

# High-order matching cost for the last quarter of training; None never switches.
model.criterion.matcher = L(HighOrderMatcher)(
    **model.criterion.matcher,
    iou_order_alpha=4.0,
    matcher_change_iter=0.75,
    max_iter="${train.max_iter}",
)
