"""What is supervised together: the predictions of one query group, from all layers.

Legend: B images, L layers, N queries, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from detrex.modeling.matcher import Matches
from detrex.modeling.queries import QueryGroup


@dataclass
class Predictions:
    """A supervised set: logits (L, B, N, K) and boxes (L, B, N, 4) of one query group.

    ``stage``: "decoder", or "encoder" for the proposals of two-stage methods.
    ``class_agnostic``: every target counts as class 0 (proposals of Deformable DETR).
    ``iou_logits`` (L, B, N): how well a query thinks its box fits, None without an IoU branch.
    """

    logits: Tensor
    boxes: Tensor
    group: QueryGroup
    stage: Literal["decoder", "encoder"] = "decoder"
    class_agnostic: bool = False
    iou_logits: Tensor | None = None

    @classmethod
    def of_encoder(cls, logits: Tensor, boxes: Tensor, class_agnostic: bool) -> Predictions:
        """The encoder's proposals, logits (B, N, K) and boxes (B, N, 4): a set of one layer."""
        group = QueryGroup(name="_enc", size=logits.shape[1])
        return cls(logits[None], boxes[None], group, "encoder", class_agnostic)

    def loss_name(self, kind: str, layer: int) -> str:
        """ "loss_class_0_one2many": the last layer carries no number."""
        return self.group.loss_name(kind, "" if layer == len(self.logits) - 1 else f"_{layer}")


def sets_from_outputs(outputs: dict, class_agnostic: bool = True) -> list[Predictions]:
    """Upstream's nested dict as supervised sets; ``class_agnostic`` says it of proposals that do
    not say so themselves. Layers that differ in shape stay a list: see :func:`are_even`."""
    layers = [*outputs.get("aux_outputs", ()), outputs]
    logits, boxes = (_stacked([x.get(k) for x in layers]) for k in ("pred_logits", "pred_boxes"))
    group = outputs.get("group") or QueryGroup(size=outputs["pred_logits"].shape[1])
    sets = [Predictions(logits, boxes, group)]
    if (proposals := outputs.get("enc_outputs")) is not None:
        agnostic = proposals.get("class_agnostic", class_agnostic)
        both = proposals["pred_logits"], proposals["pred_boxes"]
        sets.append(Predictions.of_encoder(*both, agnostic))
    return sets


def _stacked(layers: list[Tensor | None]) -> Tensor | list[Tensor | None]:
    if None in layers or len({x.shape for x in layers}) > 1:
        return layers
    return torch.stack(layers)


def are_even(predictions: Predictions) -> bool:
    """Whether all layers have boxes, and as many queries; others can only follow each other."""
    return all(isinstance(x, Tensor) for x in (predictions.logits, predictions.boxes))


# Denoising queries in upstream's dicts, which say themselves how many there are of which target.
DENOISING = QueryGroup("_dn", 0, assign=Matches(*torch.empty(4, 0, dtype=torch.int64)))
