"""Alignment beside the COCO scores of an evaluation.

Legend: B images, L layers, N queries, K classes; boxes are xyxy in pixels of the original image.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from detectron2.structures import Instances
from detectron2.utils import comm
from torch import Tensor, nn

from detrex.evaluation.coco_json import has_objects
from detrex.layers import box_cxcywh_to_xyxy
from detrex.modeling.detector import Detector
from detrex.modeling.postprocess import resize_to_original
from detrex.utils.errors import InputError

from .collector import AlignmentCollector, Detections, Diagnosis, one_class_samples
from .definitions import Definitions


class LayerQueries(NamedTuple):
    """Queries of an image: boxes (L, N, 4), scores (L, N, K), and each layer's detections."""

    boxes: Tensor
    scores: Tensor
    detections: list[Instances]


class LayerOutputs(nn.Module):
    """A detector in evaluation whose outputs also have "queries", :class:`LayerQueries`.

    The detections of a layer are those that it would return as the last one.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        self.training = detector.training  # what evaluation will restore

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        detector = self.detector
        images = detector.preprocess(batched_inputs)
        decoded, _ = detector.run(detector.encode(images))
        logits = [detector.scores(decoded, i) for i in range(len(decoded.boxes))]
        scores = torch.stack([detector.probabilities(x) for x in logits])  # (L, B, N, K)
        by_layer = [
            resize_to_original(detector.inference(x, boxes, images.sizes), batched_inputs)
            for x, boxes in zip(logits, decoded.boxes, strict=True)
        ]
        outputs = []
        for b, results in enumerate(zip(*by_layer, strict=True)):
            height, width = results[-1]["instances"].image_size
            size = scores.new_tensor([width, height] * 2)
            boxes = box_cxcywh_to_xyxy(decoded.boxes[:, b].float()) * size
            boxes = boxes.clamp(min=0).minimum(size)  # as detections are
            queries = LayerQueries(boxes, scores[:, b], [r["instances"] for r in results])
            outputs.append({**results[-1], "queries": queries})
        return outputs


def with_layers(model: nn.Module) -> nn.Module:
    """Return the model in :class:`LayerOutputs` if it is a :class:`Detector`, else itself."""
    return LayerOutputs(model) if isinstance(model, Detector) else model


class AlignmentDiagnosis:
    """The alignment that :class:`detrex.evaluation.COCOEvaluator` measures with ``diagnose``.

    Args:
        json_file: COCO ground truth.
        definitions: see :class:`Definitions`.
        max_dets: detections per image and class that COCO counts.
    """

    def __init__(self, json_file: str, definitions: Definitions, max_dets: int) -> None:
        self._json_file, self._definitions, self._max_dets = json_file, definitions, max_dets
        self._collector: AlignmentCollector | None = None
        self._kind = "detections"

    def add(
        self, image_id: int, output: dict, ground_truth: dict, category_ids: dict[int, int]
    ) -> None:
        """Measure one image's output: all layers' queries if it has them, else its detections.

        Args:
            image_id: in the JSON.
            output: of the model.
            ground_truth: of :func:`load_ground_truth`.
            category_ids: JSON category id by class.

        Raises:
            InputError: the model has another number of classes, or an image has no size.
        """
        if not has_objects(ground_truth):
            return
        queries = output.get("queries")
        if queries is None:
            detections = [detections_of(output["instances"])]
            boxes, scores = one_class_samples(detections[0], len(category_ids))
        else:
            self._kind = "queries"
            detections = [detections_of(layer) for layer in queries.detections]
            boxes, scores = (x.float().cpu().numpy() for x in queries[:2])
        if scores.shape[-1] != len(category_ids):
            raise InputError(
                f"the model has {scores.shape[-1]} classes, but {self._json_file} has "
                f"{len(category_ids)}: set num_classes to that"
            )
        if self._collector is None:
            self._collector = self._start(ground_truth, category_ids, len(boxes))
        self._collector.add(image_id, boxes, scores, detections)

    def _start(
        self, ground_truth: dict, category_ids: dict[int, int], layers: int
    ) -> AlignmentCollector:
        try:
            return AlignmentCollector(
                ground_truth,
                [category_ids[i] for i in range(len(category_ids))],
                layers,
                self._definitions,
                self._max_dets,
            )
        except InputError as error:
            raise InputError(f"{self._json_file}: {error}") from None

    def report(self, folder: str | os.PathLike | None) -> Diagnosis | None:
        """Return the reports on all processes' images, which must differ, and save them to
        ``folder``.

        None on other processes than the main one, and where no image was seen.
        """
        collector = self._collector
        gathered = comm.gather(collector and collector.state)
        if not comm.is_main_process() or collector is None:
            return None
        for measured in gathered[1:]:
            if measured is not None:
                collector.merge(*measured)
        diagnosis = collector.diagnosis(self._kind, {"annotations": self._json_file})
        if folder is not None:
            for report in diagnosis:
                report.save(folder)
        return diagnosis


def detections_of(instances: Instances) -> Detections:
    """Return a detector's output as arrays."""
    instances = instances.to("cpu")
    fields = instances.pred_boxes.tensor.float(), instances.scores.float(), instances.pred_classes
    return Detections(*(x.numpy() for x in fields))
