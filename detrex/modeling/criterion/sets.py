"""What is supervised together: the predictions of one query group, from all layers.

Legend: B images, L layers, N queries, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detrex.modeling.matcher import Matches
from detrex.modeling.queries import QueryGroup


@dataclass
class Predictions:
    """A supervised set: logits (L, B, N, K) and boxes (L, B, N, 4) of one query group.

    ``class_agnostic``: every target counts as class 0 (two-stage proposals of Deformable DETR).
    ``iou_logits`` (L, B, N): how well a query thinks its box fits, None without an IoU branch.
    """

    logits: Tensor
    boxes: Tensor
    group: QueryGroup
    class_agnostic: bool = False
    iou_logits: Tensor | None = None

    def loss_name(self, kind: str, layer: int) -> str:
        """ "loss_class_0_one2many": the last layer carries no number."""
        return self.group.loss_name(kind, "" if layer == len(self.logits) - 1 else f"_{layer}")


def sets_from_outputs(outputs: dict, class_agnostic: bool = True) -> list[Predictions]:
    """Upstream's nested dict as supervised sets; ``class_agnostic`` says it of proposals that do
    not say so themselves."""
    layers = [*outputs.get("aux_outputs", ()), outputs]
    group = outputs.get("group") or QueryGroup(size=outputs["pred_logits"].shape[1])
    sets = [_stack(layers, group)]
    if "enc_outputs" in outputs:
        proposals = outputs["enc_outputs"]
        agnostic = proposals.get("class_agnostic", class_agnostic)
        sets.append(_stack([proposals], ENCODER, agnostic))
    return sets


def _stack(layers: Sequence[dict], group: QueryGroup, class_agnostic: bool = False) -> Predictions:
    logits = torch.stack([layer["pred_logits"] for layer in layers])
    boxes = torch.stack([layer["pred_boxes"] for layer in layers])
    return Predictions(logits, boxes, group, class_agnostic)


# The encoder's proposals are supervised as a set of their own; its size is the number of tokens.
ENCODER = QueryGroup(name="_enc", size=1)

# Denoising queries in upstream's dicts, which say themselves how many there are of which target.
DENOISING = QueryGroup("_dn", 0, assign=Matches(*torch.empty(4, 0, dtype=torch.int64)))
