"""DETR (Carion et al., ECCV 2020): set prediction with a plain transformer.

Legend: B images, N queries, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from torch import Tensor, nn

from detrex.layers import MLP
from detrex.modeling.postprocess import Detections, best_classes
from detrex.modeling.single_scale import LearnedQueryDetector
from detrex.modeling.transformer import DenseEncoder
from detrex.utils.arguments import keep_arguments
from detrex.utils.errors import InputError


class DetrTransformerEncoder(DenseEncoder):
    """The dense encoder, with a final norm by default."""

    @keep_arguments
    def __init__(self, *, post_norm: bool = True, **dense) -> None:
        super().__init__(post_norm=post_norm, **dense)


class DETR(LearnedQueryDetector):
    """Softmax over ``num_classes`` and "no object"; a box is a free output of its query.

    The decoder attends to the whole image, so there is no point to start from. The arguments are
    :class:`detrex.modeling.single_scale.SingleScaleDetector`'s.

    Raises:
        InputError: for a criterion of ours whose class loss is for sigmoids.
    """

    trains_with_mask = True

    @keep_arguments
    def __init__(self, *, embed_dim: int, num_classes: int, **single_scale) -> None:
        super().__init__(embed_dim=embed_dim, num_classes=num_classes, **single_scale)
        if getattr(self.criterion, "query_loss", None) is not None:
            raise InputError(
                "model.criterion.loss_class_type is 'ce_loss' for DETR, whose scores are a softmax,"
                f" got {self.criterion.loss_class_type!r}"
            )
        self.class_embed = nn.Linear(embed_dim, num_classes + 1)
        self.bbox_embed = MLP(embed_dim, embed_dim, 4, 3)

    def best(self, logits: Tensor, boxes: Tensor) -> Detections:
        return best_classes(logits, boxes)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(-1)[..., :-1]
