"""From scores to detections.

Legend: B images, N queries, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor

from detrex.layers import box_cxcywh_to_xyxy


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
