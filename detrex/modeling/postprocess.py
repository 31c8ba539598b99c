"""From scores to detections.

Legend: B images, N queries, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision.ops import batched_nms

from detrex.layers import box_cxcywh_to_xyxy
from detrex.utils.errors import InputError


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
    results, (scores, labels, _) = [], detections
    corners = box_cxcywh_to_xyxy(detections.boxes.float())
    for size, box, score, cls in zip(sizes, corners, scores, labels, strict=True):
        result = Instances(size)
        result.pred_boxes = Boxes(box * box.new_tensor([size[1], size[0]] * 2))
        result.scores = score
        result.pred_classes = cls
        results.append(result)
    return results


def check_nms_iou(value: object) -> None:
    """Check the IoU of :func:`best_of_overlapping`.

    Raises:
        InputError: it is neither None nor a number above 0 and at most 1.
    """
    if value is not None and not (isinstance(value, int | float) and 0 < value <= 1):
        raise InputError(f"nms_iou {value!r}: an IoU is above 0 and at most 1")


def best_of_overlapping(detections: Instances, nms_iou: float | None) -> Instances:
    """Return an image's detections without those that overlap a better one of their class by more
    than ``nms_iou`` (non-maximum suppression), best first; all as they are for None."""
    if nms_iou is None:
        return detections
    boxes, scores = detections.pred_boxes.tensor.float(), detections.scores.float()
    return detections[batched_nms(boxes, scores, detections.pred_classes, nms_iou)]


def resize_to_original(
    results: Sequence[Instances], batched_inputs: Sequence[dict]
) -> list[dict[str, Instances]]:
    """Detections in the pixels of the original files ("height", "width" of each input)."""
    output = []
    for result, image in zip(results, batched_inputs, strict=True):
        height = image.get("height", result.image_size[0])
        width = image.get("width", result.image_size[1])
        output.append({"instances": detector_postprocess(result, height, width)})
    return output
