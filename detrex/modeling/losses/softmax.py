"""DETR's class loss: a softmax over the classes and "no object" (Carion et al. 2020, section 3.1).

Legend: B images, L layers, N queries, K classes, M matches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detrex.modeling.matcher import Matches
from detrex.utils.errors import InputError


def softmax_cross_entropy(
    logits: Tensor, matches: Matches, labels: Tensor, class_weight: Tensor
) -> Tensor:
    """Weighted mean cross-entropy of each layer (L,): logits (L, B, N, K + 1), labels (M,).

    Queries without a match belong to the last class; ``class_weight`` (K + 1,) makes up for their
    number. The mean is over all queries, so unlike other class losses it needs no object count.

    Raises:
        InputError: there is no logit for "no object".
    """
    if logits.shape[-1] != len(class_weight):
        raise InputError(
            f"criterion.loss_class_type='ce_loss' needs {len(class_weight)} logits, the last one of"
            f' "no object"; this method has {logits.shape[-1]}'
        )
    none = logits.shape[-1] - 1
    target = torch.full(logits.shape[:3], none, device=logits.device)
    target[matches.layer, matches.image, matches.query] = labels
    loss = F.cross_entropy(
        logits.float().flatten(0, 2), target.flatten(), class_weight, reduction="none"
    )
    return loss.view(len(logits), -1).sum(1) / class_weight[target].flatten(1).sum(1)
