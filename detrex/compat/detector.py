"""Attributes and methods of a detector that only subclasses written for upstream need.

Legend: B images, L layers, N queries, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.structures import Instances
from torch import Tensor

from detrex.compat.overrides import refuse_unused, refuses


@refuses("model")
class UpstreamMethods:
    """Mixed into the detector: attributes and methods by upstream's names."""

    passes_dn_metas = False  # as DINO gives denoising queries to a criterion that works by layer
    follows_decoder = False  # whether a decoder may have upstream's arguments

    @property
    def device(self) -> torch.device:
        """The device that the model was moved to."""
        return self.pixel_mean.device

    @device.setter
    def device(self, value: object) -> None:
        """Without effect, as the constructor's argument."""

    def _set_aux_loss(self, outputs_class: Tensor, outputs_coord: Tensor) -> list[dict]:
        """All layers but the last of logits (L, B, N, K) and boxes (L, B, N, 4)."""
        layers = zip(outputs_class[:-1], outputs_coord[:-1], strict=True)
        return [{"pred_logits": logits, "pred_boxes": boxes} for logits, boxes in layers]

    def inference(
        self, box_cls: Tensor, box_pred: Tensor, image_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """Detections from the last layer's logits (B, N, K) and boxes (B, N, 4)."""
        refuse_unused(self)
        return self.select(box_cls, box_pred, image_sizes)
