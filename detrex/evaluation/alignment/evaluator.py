"""Alignment next to the COCO scores, whenever a model is evaluated.

Legend: B images, L layers, N queries, K classes; boxes are xyxy in pixels of the original image.
"""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

import torch
from detectron2.structures import Instances
from detectron2.utils import comm
from torch import Tensor, nn

from detrex.evaluation.coco_json import has_objects, load_ground_truth
from detrex.layers import box_cxcywh_to_xyxy
from detrex.modeling.detector import Detector
from detrex.modeling.postprocess import resize_to_original
from detrex.utils.errors import InputError

from .collector import AlignmentCollector, Detections, one_class_samples
from .definitions import Definitions
from .report import AlignmentReport


class LayerQueries(NamedTuple):
    """One image: boxes (L, N, 4), scores (L, N, K), and each layer's detections."""

    boxes: Tensor
    scores: Tensor
    detections: list[Instances]


class LayerOutputs(nn.Module):
    """A detector in evaluation, whose outputs also carry ``"queries"``: :class:`LayerQueries`.

    What each layer would return if it were the last one; one pass of the detector.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        self.training = detector.training  # what evaluation will restore

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        detector = self.detector
        images = detector.preprocess(batched_inputs)
        found, _ = detector.run(detector.encode(images))
        logits = [detector.scores(found, i) for i in range(len(found.boxes))]
        scores = torch.stack([detector.probabilities(x) for x in logits])  # (L, B, N, K)
        by_layer = [
            resize_to_original(detector.inference(x, boxes, images.sizes), batched_inputs)
            for x, boxes in zip(logits, found.boxes, strict=True)
        ]
        outputs = []
        for b, results in enumerate(zip(*by_layer, strict=True)):
            height, width = results[-1]["instances"].image_size
            size = scores.new_tensor([width, height] * 2)
            boxes = box_cxcywh_to_xyxy(found.boxes[:, b].float()) * size
            boxes = boxes.clamp(min=0).minimum(size)  # as detections are
            queries = LayerQueries(boxes, scores[:, b], [r["instances"] for r in results])
            outputs.append({**results[-1], "queries": queries})
        return outputs


def with_layers(model: nn.Module) -> nn.Module:
    """The model with :class:`LayerOutputs` if it is one of ours, else the model itself."""
    return LayerOutputs(model) if isinstance(model, Detector) else model


class AlignmentDiagnosis:
    """What :class:`detrex.evaluation.COCOEvaluator` asks with ``diagnose``.

    Args:
        json_file: COCO ground truth.
        definitions: see :class:`Definitions`.
        max_dets: detections per image and class that COCO counts.
    """

    def __init__(self, json_file: str, definitions: Definitions, max_dets: int) -> None:
        self._json_file, self._definitions, self._max_dets = json_file, definitions, max_dets
        self._collector: AlignmentCollector | None = None
        self._kind = "detections"

    @functools.cached_property
    def ground_truth(self) -> dict:
        """Read when the first image comes."""
        return load_ground_truth(self._json_file)

    def add(self, image_id: int, output: dict, category_ids: dict[int, int]) -> None:
        """Measure one image's output: all layers' queries if it has them, else its detections.

        ``category_ids``: JSON category id by class. Raises InputError for a model with
        another number of classes, and for data without image sizes.
        """
        if not has_objects(self.ground_truth):
            return  # there is nothing to align with
        queries = output.get("queries")
        if queries is None:
            found = [detections_of(output["instances"])]
            boxes, scores = one_class_samples(found[0], len(category_ids))
        else:
            self._kind = "queries"
            found = [detections_of(layer) for layer in queries.detections]
            boxes, scores = (x.float().cpu().numpy() for x in queries[:2])
        if scores.shape[-1] != len(category_ids):
            raise InputError(
                f"the model has {scores.shape[-1]} classes, but {self._json_file} has "
                f"{len(category_ids)}: set num_classes to that"
            )
        if self._collector is None:
            self._collector = self._start(category_ids, len(boxes))
        self._collector.add(image_id, boxes, scores, found)

    def _start(self, category_ids: dict[int, int], layers: int) -> AlignmentCollector:
        try:
            return AlignmentCollector(
                self.ground_truth,
                [category_ids[i] for i in range(len(category_ids))],
                layers,
                self._definitions,
                self._max_dets,
            )
        except InputError as error:
            raise InputError(f"{self._json_file}: {error}") from None

    def report(self, folder: str | os.PathLike | None) -> AlignmentReport | None:
        """Join all processes' images; written to ``folder`` and returned on the main process.

        None on the others, and where no image was seen. Every process must see other images.
        """
        mine = self._collector
        gathered = comm.gather(None if mine is None else (mine.meter, mine.found))
        if not comm.is_main_process() or mine is None:
            return None
        for part in gathered[1:]:
            if part is not None:
                mine.merge(*part)
        report = mine.report(self._kind, {"annotations": self._json_file})
        if folder is not None:
            report.save(folder)
        return report


def detections_of(found: Instances) -> Detections:
    """A detector's output as arrays."""
    found = found.to("cpu")
    fields = found.pred_boxes.tensor.float(), found.scores.float(), found.pred_classes
    return Detections(*(x.numpy() for x in fields))
