"""What decoder and encoder predict, and what of it is supervised together.

Legend: B images, L layers, N queries, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from detrex.modeling.queries import QueryGroup


class Outputs(NamedTuple):
    """The outputs of all decoder layers: logits (L, B, N, K), boxes (L, B, N, 4) and, with an IoU
    branch, IoU logits (L, B, N)."""

    logits: Tensor
    boxes: Tensor
    iou_logits: Tensor | None = None


@dataclass
class Predictions:
    """A supervised set: logits (L, B, N, K) and boxes (L, B, N, 4) of one query group.

    ``stage``: "decoder", or "encoder" for the proposals of two-stage methods.
    ``class_agnostic``: every target counts as class 0 (proposals of Deformable DETR).
    ``iou_logits`` (L, B, N): the predicted IoU of each box with its target, None without an IoU
    branch. ``matched_boxes`` (L, B, N, 4): what is matched in the place of the boxes.
    """

    logits: Tensor
    boxes: Tensor
    group: QueryGroup
    stage: Literal["decoder", "encoder"] = "decoder"
    class_agnostic: bool = False
    iou_logits: Tensor | None = None
    matched_boxes: Tensor | None = None

    @property
    def matched(self) -> Tensor:
        """The boxes (L, B, N, 4) that the matcher compares with targets."""
        return self.boxes if self.matched_boxes is None else self.matched_boxes

    @classmethod
    def of_encoder(
        cls, logits: Tensor, boxes: Tensor, class_agnostic: bool, name: str = "_enc"
    ) -> Predictions:
        """The encoder's proposals, logits (B, N, K) and boxes (B, N, 4): a set of one layer."""
        group = QueryGroup(name=name, size=logits.shape[1])
        return cls(logits[None], boxes[None], group, "encoder", class_agnostic)

    def loss_name(self, kind: str, layer: int) -> str:
        """ "loss_class_0_one2many": the last layer carries no number, unless the group says so."""
        bare = layer == len(self.logits) - 1 and not self.group.number_all
        return self.group.loss_name(kind, "" if bare else f"_{layer}")
