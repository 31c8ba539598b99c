"""Mr. DETR-Align plus three parts of Rank-DETR, each with its switch: Align-DETR's class loss has the
place of the GIoU-aware one."""

from projects.rank_detr.modeling.rank_family import RankMrDETR, RankRoutedDecoder

from ....mr_detr.configs.models.mr_detr_align_r50 import model
from .rank_dino_r50 import model as rank

model._target_ = RankMrDETR
model.update(rank_adaptive_classhead=True, mix_scores=False)
model.transformer.decoder._target_ = RankRoutedDecoder
model.transformer.decoder.update(
    num_queries="${...num_queries}",
    rank_adaptive_classhead="${...rank_adaptive_classhead}",
    query_rank_layer=True,
)
model.criterion.matcher = rank.criterion.matcher  # the costs are the same
