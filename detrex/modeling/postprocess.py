"""From scores to detections.

Legend: B images, N queries, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision.ops import batched_nms

from detrex.layers import box_cxcywh_to_xyxy
from detrex.utils.device import HostCopy, send

_FIELDS = {"pred_boxes", "scores", "pred_classes"}


class Detections(NamedTuple):
    """The detections of every image: scores in [0, 1] and labels (B, D), boxes (B, D, 4)."""

    scores: Tensor
    labels: Tensor
    boxes: Tensor


def best_pairs(logits: Tensor, boxes: Tensor, count: int) -> Detections:
    """The ``count`` best (query, class) pairs of each image; one query may appear twice.

    logits (B, N, K), boxes (B, N, 4).
    """
    pairs = logits.shape[1] * logits.shape[2]
    scores, index = logits.float().sigmoid().flatten(1).topk(min(count, pairs), dim=1)
    query, label = index // logits.shape[-1], index % logits.shape[-1]
    return Detections(scores, label, boxes.gather(1, query[..., None].expand(-1, -1, 4)))


def best_classes(logits: Tensor, boxes: Tensor) -> Detections:
    """One detection per query, unsorted, for softmax heads whose last class is "no object"."""
    return Detections(*logits.float().softmax(-1)[..., :-1].max(-1), boxes)


def as_instances(detections: Detections, sizes: Sequence[tuple[int, int]]) -> list[Instances]:
    """Instances with scores, pred_classes and pred_boxes (xyxy in pixels); sizes (height, width)
    of the unpadded network inputs."""
    results, (scores, labels, boxes) = [], detections
    scales = torch.tensor([(width, height) * 2 for height, width in sizes], dtype=torch.float32)
    corners = box_cxcywh_to_xyxy(boxes.float()) * send(scales, boxes.device)[:, None]
    for size, box, score, cls in zip(sizes, corners, scores, labels, strict=True):
        result = Instances(size)
        result.pred_boxes = Boxes(box)
        result.scores = score
        result.pred_classes = cls
        results.append(result)
    return results


def best_of_overlapping(detections: Instances, nms_iou: float | None) -> Instances:
    """An image's detections without those that overlap a better one of their class by more than
    ``nms_iou`` (non-maximum suppression), best first; all as they are for None. Overlap is that of
    what lies inside the image."""
    if nms_iou is None:
        return detections
    detections.pred_boxes.clip(detections.image_size)
    boxes, scores = detections.pred_boxes.tensor.float(), detections.scores.float()
    return detections[batched_nms(boxes, scores, detections.pred_classes, nms_iou)]


def resize_to_original(
    results: Sequence[Instances], batched_inputs: Sequence[dict]
) -> list[dict[str, Instances]]:
    """Detections in pixels of the original files ("height", "width" of each input), clipped to the
    image and without empty boxes: as detectron2's ``detector_postprocess``, which waits for the
    device four times for each image, here once for all.

    Raises:
        AssertionError: a box that is infinite or NaN, as detectron2.
    """
    sizes = [
        (image.get("height", result.image_size[0]), image.get("width", result.image_size[1]))
        for result, image in zip(results, batched_inputs, strict=True)
    ]
    if any(set(result.get_fields()) != _FIELDS for result in results):
        pairs = zip(results, sizes, strict=True)
        return [{"instances": detector_postprocess(result, *size)} for result, size in pairs]
    resized = [_resized(result, size) for result, size in zip(results, sizes, strict=True)]
    before, after = (Boxes.cat([x.pred_boxes for x in kind]) for kind in (results, resized))
    states = torch.stack([before.tensor.isfinite().all(1), after.nonempty()])
    finite, nonempty = HostCopy(states).wait()
    assert finite.all(), "Box tensor contains infinite or NaN!"
    masks = nonempty.split([len(result) for result in resized])
    return [{"instances": _chosen(*pair)} for pair in zip(resized, masks, strict=True)]


def _resized(result: Instances, size: tuple[int, int]) -> Instances:
    """Detections in an image of another size (height, width)."""
    (height, width), (before_height, before_width) = size, result.image_size
    boxes = result.pred_boxes.clone()
    boxes.scale(width / before_width, height / before_height)
    x, y = boxes.tensor[:, 0::2].clamp(0, width), boxes.tensor[:, 1::2].clamp(0, height)
    boxes.tensor = torch.stack([x, y], -1).flatten(1)
    return Instances(size, **{**result.get_fields(), "pred_boxes": boxes})


def _chosen(result: Instances, mask: Tensor) -> Instances:
    """The detections for which the mask, a tensor of the host, is True."""
    if mask.all():
        return result
    return result[send(mask.nonzero()[:, 0], result.scores.device)]
