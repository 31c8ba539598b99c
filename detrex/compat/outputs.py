"""Upstream's dicts of outputs, as the sets that the criterion supervises.

outputs: "pred_logits" (B, N, K), "pred_boxes" (B, N, 4) of the last layer, "aux_outputs", a list of
such dicts of the layers before it, and "enc_outputs", that of the encoder's proposals.

Legend: B images, L layers, N queries, K classes, M matches; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detrex.modeling.matcher import Matches
from detrex.modeling.matcher.matcher import Targets
from detrex.modeling.predictions import Predictions
from detrex.modeling.queries import QueryGroup
from detrex.utils.dist import mean_over_ranks

Layer = dict[str, Tensor]  # the outputs of one layer
Indices = Sequence[tuple[Tensor, Tensor]]  # per image: queries (M,) and its targets (M,)

# Denoising queries in upstream's dicts, which hold their number and their targets themselves.
DENOISING = QueryGroup("_dn", 0, assign=Matches(*torch.empty(4, 0, dtype=torch.int64)))


def sets_from_outputs(outputs: dict, class_agnostic: bool = True) -> list[Predictions]:
    """Supervised sets; ``class_agnostic`` is for proposals without such a key. Layers that differ
    in shape stay a list: see :func:`are_even`."""
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
    """Whether all layers have boxes and equally many queries; else the losses need a loop."""
    return all(isinstance(x, Tensor) for x in (predictions.logits, predictions.boxes))


def alone(outputs: dict) -> Layer:
    """The outputs of the last layer alone, for a matcher."""
    return {k: v for k, v in outputs.items() if k not in ("aux_outputs", "enc_outputs")}


def count_objects(outputs: dict, targets: Targets) -> float:
    """Objects per process, at least one."""
    count = sum(len(target["labels"]) for target in targets)
    return mean_over_ranks(count, outputs["pred_logits"].device).clamp(min=1).item()


def indices_of_layer(matches: Matches, layer: int, targets: Targets) -> Indices:
    """The matches of a layer, by image."""
    return matches.by_image(layer, [len(target["labels"]) for target in targets])
