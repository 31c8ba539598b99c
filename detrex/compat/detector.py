"""Methods of a detector that have upstream's names, for subclasses that override or call them.

Legend: B images, L layers, N queries, G targets of an image, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.structures import ImageList, Instances
from torch import Tensor

from detrex.compat.overrides import ours
from detrex.layers import box_xyxy_to_cxcywh
from detrex.modeling.padding import pad_and_stack
from detrex.utils.device import send


class UpstreamMethods:
    """Mixed into the detector, which calls them in this order."""

    @property
    def device(self) -> torch.device:
        """Where the model lives: where it was moved to."""
        return self.pixel_mean.device

    @device.setter
    def device(self, value: object) -> None:
        """As the argument of that name: without effect."""

    def normalizer(self, image: Tensor) -> Tensor:
        """Pixels (3, H, W) in [0, 255] as the backbone wants them."""
        return (image - self.pixel_mean) / self.pixel_std

    @ours
    def preprocess_image(self, batched_inputs: Sequence[dict]) -> ImageList:
        """Normalised images, padded to the largest."""
        pixels = [send(x["image"], self.device) for x in batched_inputs]
        batch, _ = pad_and_stack([self.normalizer(x) for x in pixels])
        return ImageList(batch, [tuple(x.shape[-2:]) for x in pixels])

    @ours
    def prepare_targets(self, targets: Sequence[Instances]) -> list[dict[str, Tensor]]:
        """Labels (G,) and boxes (G, 4) of each image, relative to its unpadded size."""
        counts = [len(x) for x in targets]
        boxes = torch.cat([x.gt_boxes.tensor.float() for x in targets])
        labels = torch.cat([x.gt_classes for x in targets])
        sizes = [(x.image_size[1], x.image_size[0]) * 2 for x in targets for _ in range(len(x))]
        boxes = box_xyxy_to_cxcywh(boxes / boxes.new_tensor(sizes).view_as(boxes))
        # All images' targets in one copy each, for which the host need not wait.
        parts = (send(x, self.device).split(counts) for x in (labels, boxes))
        return [{"labels": own, "boxes": place} for own, place in zip(*parts, strict=True)]

    @ours
    def _set_aux_loss(self, outputs_class: Tensor, outputs_coord: Tensor) -> list[dict]:
        """All layers but the last of logits (L, B, N, K) and boxes (L, B, N, 4)."""
        layers = zip(outputs_class[:-1], outputs_coord[:-1], strict=True)
        return [{"pred_logits": logits, "pred_boxes": boxes} for logits, boxes in layers]

    @ours
    def inference(
        self, box_cls: Tensor, box_pred: Tensor, image_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """Detections from the last layer's logits (B, N, K) and boxes (B, N, 4)."""
        return self.select(box_cls, box_pred, image_sizes)
