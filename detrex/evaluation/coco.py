"""Box scores of a registered data set in COCO format, over any number of processes."""

from __future__ import annotations

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property, partial

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from detrex.data.coco import whole
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write

from .coco_json import has_objects, load_ground_truth
from .coco_scores import SCORES, check_options, format_table, score_detections, score_text

logger = logging.getLogger(__name__)

RESULTS = "coco_instances_results.json"


class COCOEvaluator(DatasetEvaluator):
    """Collects a detector's boxes and scores them as COCO does; one of detectron2's evaluators.

    Args:
        dataset_name: a registered data set, or a list of just one, whose metadata names a COCO
            ``json_file``.
        output_dir: folder for ``coco_instances_results.json``; None writes nothing.
        per_class: also return and log "AP-<class>".
        max_dets: detections per image that count.
        backend: as in :func:`detrex.evaluation.evaluate_detections`.
        diagnose: also measure alignment, of all decoder layers if the model is a
            :class:`detrex.modeling.detector.Detector`, and calibration: ``alignment.json`` and
            ``calibration.json`` beside the results, main numbers as tasks "alignment" and
            "calibration". True, or fields of
            :class:`detrex.evaluation.alignment.Definitions`.

    Raises:
        InputError: the data set is unknown, its JSON is missing, or an option is refused.
    """

    keys: Mapping[str, tuple[str, ...]] = {}  # of the ground truth besides those of box scores

    def __init__(
        self,
        dataset_name: str | Sequence[str],
        output_dir: str | os.PathLike | None = None,
        *,
        per_class: bool = False,
        max_dets: int = 100,
        backend: str = "auto",
        diagnose: bool | Mapping = False,
    ) -> None:
        names = [dataset_name] if isinstance(dataset_name, str) else list(dataset_name)
        if len(names) != 1:
            raise InputError(f"COCOEvaluator scores exactly one data set, got {names}")
        self.metadata = MetadataCatalog.get(names[0])
        self.json_file = self.metadata.get("json_file")
        if self.json_file is None:
            raise InputError(f"data set {names[0]!r} is not registered with a COCO JSON file")
        if not os.path.isfile(self.json_file):
            raise InputError(f"data set {names[0]!r}: no such file: {self.json_file}")
        check_options(backend, max_dets)
        self.output_dir = output_dir
        self.per_class, self.max_dets, self.backend = per_class, max_dets, backend
        self.diagnose = bool(diagnose)
        if diagnose:
            # Here, because it imports scipy.
            from .alignment import AlignmentDiagnosis, read_definitions

            definitions = read_definitions(diagnose if isinstance(diagnose, Mapping) else {})
            self._diagnosis = partial(AlignmentDiagnosis, self.json_file, definitions, max_dets)
        self.reset()

    @cached_property
    def ground_truth(self) -> dict:
        """Content of the JSON, read when it is first needed."""
        return load_ground_truth(self.json_file, self.keys)

    def reset(self) -> None:
        """Forget all predictions."""
        # image id -> (boxes (N, 4) xyxy pixels, scores (N,), contiguous classes (N,))
        self._predictions: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self._alignment = self._diagnosis() if self.diagnose else None

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Collect the predictions of some images.

        Raises:
            InputError: boxes or scores are not finite.
        """
        for image, output in zip(inputs, outputs, strict=True):
            instances, image_id = output["instances"].to("cpu"), whole(image["image_id"])
            boxes = instances.pred_boxes.tensor.float()  # may be bfloat16
            scores = instances.scores.float()
            if not (boxes.isfinite().all() and scores.isfinite().all()):
                raise InputError(
                    f"image {image_id}: the model's boxes or scores are not finite: its weights "
                    "are damaged or its training has diverged"
                )
            classes = instances.pred_classes.numpy()
            self._predictions[image_id] = boxes.numpy(), scores.numpy(), classes
            if self._alignment is not None:
                self._alignment.add(image_id, output, self.ground_truth, self._category_ids())

    def evaluate(self) -> OrderedDict | None:
        """Return {"bbox": percentages by name} on the main process, None on the others.

        With ``diagnose`` also "alignment" and "calibration", the main numbers (``scalars``) of both
        reports. Without objects in
        the JSON, as for COCO's test images, detections are written and the result is empty.

        Raises:
            InputError: predictions of images or classes that the JSON does not have.
        """
        gathered = comm.gather(self._predictions)
        diagnosis = self._alignment and self._alignment.report(self.output_dir)
        if not comm.is_main_process():
            return None
        # A sampler that pads shows an image to several processes: it counts once.
        predictions = {k: v for process in reversed(gathered) for k, v in process.items()}
        gt = self.ground_truth
        if len(predictions) < len(gt["images"]):
            seen, total = len(predictions), len(gt["images"])
            logger.warning(f"{seen} of {total} images were processed; the others count as missed")
        detections = self._to_coco(predictions)
        if self.output_dir is not None:
            with atomic_write(os.path.join(self.output_dir, RESULTS)) as stream:
                json.dump(detections, stream)
        if not has_objects(gt):
            where = f", {len(detections)} detections are in {self.output_dir}/{RESULTS}"
            written = where if self.output_dir is not None else ""
            logger.warning(f"{self.json_file} has no objects: nothing to score{written}")
            return OrderedDict()
        scores = self._scores(detections)
        logger.info("boxes:\n%s", self._table(scores))
        if self.per_class:
            logger.info("AP per class:\n%s", _class_table(scores))
        results = OrderedDict(bbox=scores)
        if diagnosis is not None:
            results["alignment"] = diagnosis.alignment.scalars()
            results["calibration"] = diagnosis.calibration.scalars()
        return results

    def _scores(self, detections: list[dict]) -> dict[str, float]:
        gt = self.ground_truth
        return score_detections(gt, detections, self.backend, self.max_dets, self.per_class)

    def _table(self, scores: dict[str, float]) -> str:
        return format_table(scores, self.max_dets)

    def _category_ids(self) -> dict[int, int]:
        """Return the category id in the JSON of each class."""
        mapping = self.metadata.get("thing_dataset_id_to_contiguous_id")
        if mapping is None:  # registered but never loaded: detectron2's rule
            ids = sorted(category["id"] for category in self.ground_truth["categories"])
            mapping = {id_: i for i, id_ in enumerate(ids)}
        return {i: whole(id_) for id_, i in mapping.items()}

    def _to_coco(self, predictions: dict) -> list[dict]:
        """Return predictions in COCO's results format, with the JSON's category ids."""
        category_id, detections = self._category_ids(), []
        for image_id, (boxes, scores, classes) in predictions.items():
            if self.metadata.get("from_config"):  # a model of several data sets has more classes
                scored = np.isin(classes, list(category_id))
                of_others = classes < len(self.metadata.thing_classes)
                boxes, scores, classes = (v[scored | ~of_others] for v in (boxes, scores, classes))
            unknown = set(classes.tolist()) - category_id.keys()
            if unknown:
                raise InputError(
                    f"the model predicts class {min(unknown)}, but {self.json_file} has "
                    f"{len(category_id)} classes: set num_classes to that"
                )
            xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
            ids = [category_id[label] for label in classes.tolist()]
            detections += [
                {"image_id": image_id, "category_id": id_, "bbox": box, "score": score}
                for id_, box, score in zip(ids, xywh.tolist(), scores.tolist(), strict=True)
            ]
        return detections


def _class_table(scores: dict[str, float]) -> str:
    rows = [(name[len("AP-") :], ap) for name, ap in scores.items() if name not in SCORES]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f" {name:<{width}s}  {score_text(ap, '6.2f')}" for name, ap in rows)
