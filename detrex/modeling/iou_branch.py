"""The IoU branch (Align-DETR, Cai et al. 2023, table 4).

Every decoder layer predicts the IoU of each box with its target, which becomes part of the score.
Its loss is in the criterion, beside those of the boxes.

Legend: B images, L layers, N queries, C channels, K classes.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from detrex.modeling.predictions import Outputs


class IouBranch:
    """Mixed into the detector. ``iou_embed``: a head (C) -> (1) of each layer, None without a
    branch; ``iou_weight``: the branch's share of the score, 0 trains it without using it."""

    iou_embed: nn.ModuleList | None
    iou_weight: float

    def build_iou_branch(self, enabled: bool, weight: float) -> None:
        """Add the heads, if ``enabled``.

        Raises:
            ValueError: a weight outside [0, 1], or a criterion other than :class:`SetCriterion`
                with a sigmoid class loss.
        """
        self.iou_embed, self.iou_weight = None, weight
        if not enabled:
            return
        if not 0 <= weight <= 1:
            raise ValueError(f"model.iou_weight must be in [0, 1], got {weight}")
        if getattr(self.criterion, "query_loss", None) is None:
            raise ValueError("model.iou_branch needs a SetCriterion with a sigmoid class loss")
        decoder = self.transformer.decoder
        layers = range(decoder.num_layers)
        self.iou_embed = nn.ModuleList(nn.Linear(decoder.embed_dim, 1) for _ in layers)

    def scores(self, outputs: Outputs, layer: int = -1) -> Tensor:
        """Logits (B, N, K) of a layer's scores, joined with the IoU branch's if there is one."""
        logits = outputs.logits[layer]
        if outputs.iou_logits is None or not self.iou_weight:
            return logits
        return fuse_iou(logits, outputs.iou_logits[layer], self.iou_weight)


def fuse_iou(logits: Tensor, iou_logits: Tensor, weight: float) -> Tensor:
    """Logits (B, N, K) of the score p^(1 - weight) * iou^weight; iou_logits (B, N).

    Reconstructed: Align-DETR (table 4) names a "weight factor of the IoU score" of 0.3 but no
    formula; this is the geometric mean that its joint quality also is.
    """
    log_score = (1 - weight) * logsigmoid(logits.float())
    log_score = log_score + weight * logsigmoid(iou_logits.float())[..., None]
    return log_score - (-log_score.expm1()).clamp(min=1e-38).log()  # finite where the score is 1
