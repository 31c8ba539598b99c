"""DDQ on DINO, R50, four levels: distinct queries, and the dense branch in training."""

from projects.ddq_detr.modeling import DDQDETR, DDQCriterion, DistinctDecoder

from ....dino.configs.models.dino_r50 import model

model._target_ = DDQDETR
model.update(distinct_iou=0.8, k_dense=4, dense_ratio=1.5)
model.transformer.learnt_init_query = False
model.transformer.decoder._target_ = DistinctDecoder
model.transformer.decoder.update(distinct_iou="${...distinct_iou}", as_released=True)
model.position_embedding.update(temperature=20, offset=0.0)
model.criterion._target_ = DDQCriterion
