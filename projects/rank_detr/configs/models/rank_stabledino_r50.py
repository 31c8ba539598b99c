"""Stable-DINO plus the four parts of Rank-DETR, each with its switch."""

from detrex.modeling.matcher import HighOrderPositionMatcher
from projects.rank_detr.modeling.rank_family import RankStableDINO

from ....stabledino.configs.models.stabledino_r50 import model as stable
from .rank_dino_r50 import model

model._target_ = RankStableDINO
model.update(gdn_k=2, neg_step_type="none")
model.transformer.encoder = stable.transformer.encoder

# Proposals and denoising queries keep Stable-DINO's loss and its factors.
model.criterion.loss_class_type = "position_supervised_loss"
model.criterion.set_losses = dict(_enc="position_supervised_loss", _dn="position_supervised_loss")
model.criterion.weight_dict.loss_class_enc = 6.0

# Stable-DINO's cost, until the high-order cost begins.
model.criterion.matcher._target_ = HighOrderPositionMatcher
