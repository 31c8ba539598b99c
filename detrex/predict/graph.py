"""A detector as one graph of tensors, as ONNX and torch.export need it.

Legend: B images, D detections; boxes are x0, y0, x1, y1 in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detrex.compat.overrides import overridden
from detrex.layers import box_cxcywh_to_xyxy
from detrex.modeling.detector import Detector
from detrex.utils.errors import InputError


class DetectorGraph(nn.Module):
    """pixels (B, 3, H, W) uint8, sizes (B, 2) int64 -> scores, labels (B, D), boxes (B, D, 4).

    ``sizes`` is each image's height and width without padding, which is below and to the right.
    Pixels are not normalised, in the channel order of the config's mapper. The backbone takes
    images of different sizes padded, but :class:`Detector` feeds them one by one: its detections
    differ slightly where there is padding.

    Raises:
        InputError: the detector overrides ``forward``, ``preprocess_image`` or ``inference``.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        if methods := overridden(detector, ("forward", "preprocess_image", "inference")):
            raise InputError(
                f"{methods[0]}() would not be part of the exported graph: override features(),"
                " make_queries(), decode() or best() instead"
            )
        self.detector = detector

    def forward(self, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        detector, shape = self.detector, pixels.shape[-2:]
        normalised = (pixels - detector.pixel_mean) / detector.pixel_std
        inside = ~padding(sizes, shape, shape)[:, None]
        features = detector.features(normalised * inside)
        masks = [padding(sizes, shape, level.shape[-2:]) for level in features]
        memory = detector.encode_levels(features, masks)
        outputs, _ = detector.run(memory)
        best = detector.best(detector.scores(outputs), outputs.boxes[-1])
        scale = sizes.flip(1).repeat(1, 2)[:, None].float()  # (B, 1, 4)
        corners = box_cxcywh_to_xyxy(best.boxes.float()) * scale
        return best.scores, best.labels, torch.minimum(corners.clamp(min=0.0), scale)


def padding(sizes: Tensor, image: Sequence[int], level: Sequence[int]) -> Tensor:
    """Masks (B, h, w), True = padding, of a level (h, w) of images (H, W).

    Each position of the level takes the mask of the pixel that ``F.interpolate`` takes. ONNX's
    Resize of the whole mask would round differently.
    """
    rows, columns = (
        (torch.arange(n, device=sizes.device) * (torch.scalar_tensor(full) / n)).floor()
        for n, full in zip(level, image, strict=True)
    )
    return (rows >= sizes[:, :1])[:, :, None] | (columns >= sizes[:, 1:])[:, None]
