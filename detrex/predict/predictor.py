"""A trained model, ready for images of any kind.

Boxes are x0, y0, x1, y1 in pixels of the image that was passed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.structures import Instances
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from detrex.checkpoint.files import read_checkpoint
from detrex.checkpoint.model import trained_model
from detrex.checkpoint.zoo import PREFIX, zoo_entry
from detrex.config import CONFIG_FILE
from detrex.config.load import load_config
from detrex.data.class_names import indices_of
from detrex.data.custom import PUBLISHED_CLASSES
from detrex.data.dataset_info import (
    DatasetInfo,
    dataset_info,
    metadata_of_first,
    num_classes_fields,
)
from detrex.data.image import as_pixels
from detrex.evaluation.alignment.evaluator import with_layers
from detrex.evaluation.calibration.maps import ScoreMaps, read_maps
from detrex.utils.device import resolve_device
from detrex.utils.errors import InputError
from detrex.utils.optional import need_package
from detrex.utils.text import first_few, first_line

from .hub import Pretrained
from .resizing import resizing, test_mapper
from .selection import Selection
from .tiles import Tiles

if TYPE_CHECKING:
    import supervision


class Predictor(Pretrained):
    """Detects the objects in images, which it reads and resizes as ``--eval-only`` does.

        predictor = detrex.Predictor("config.py", "model_final.pth")
        instances = predictor("street.jpg")  # pred_boxes, scores, pred_classes

    Args:
        config: the model's config file; None takes the ``config.yaml`` beside the checkpoint, or
            the one of a published checkpoint.
        checkpoint: file of weights, or an address, such as "zoo://rank_detr_r50_12ep". It also
            says the names of the classes; where it does not (upstream's), they are those of the
            data set that the config names.
        device: None takes the accelerator if there is one, else the CPU.
        threshold: least score of a detection, from 0 to 1; "auto" takes each class's best one (by
            LRP) from the checkpoint, where tools/calibrate.py has written it.
        trust_config: run code outside of detrex and its libraries that a YAML config names.
        calibrated: return scores that went through the checkpoint's maps (tools/calibrate.py).
        overrides: of keys of the config, e.g. "model.nms_iou=0.9".

    Attributes:
        config: the resolved config.
        model: in evaluation mode.
        selection: which detections are returned, with which scores.
        tiles: how large images are cut; None, unless you set it: they are not.
        classes: name of each class, or None.
        category_ids: number of each class in the data set's JSON, or None.
        maps: of scores, with thresholds, which the checkpoint has from tools/calibrate.py, or None.

    Raises:
        InputError: files are missing, unreadable or do not belong together; there is no such
            device.
    """

    tiles: Tiles | None = None

    def __init__(
        self,
        config: str | Path | None,
        checkpoint: str | Path,
        device: str | torch.device | None = None,
        threshold: float | str = 0.3,
        trust_config: bool = False,
        calibrated: bool = False,
        overrides: Sequence[str] = (),
    ) -> None:
        content = read_checkpoint(checkpoint)
        metadata = content.get("metadata") or {}
        self.maps: ScoreMaps | None = None
        if metadata.get("calibration") is not None:
            self.maps = read_maps(metadata["calibration"], f"{checkpoint}: its calibration")
        try:
            self.selection = Selection(threshold, self.maps, calibrated)
        except InputError as error:
            raise InputError(f"{checkpoint}: {error}") from None
        path = str(config or config_beside(checkpoint))
        self.config = load_config(path, overrides, trust_config)
        if metadata.get("classes"):
            _set_num_classes(self.config, metadata["classes"], checkpoint)
        data_set = registered_data_set(self.config)
        self.classes: list[str] | None = metadata.get("classes") or (data_set and data_set.classes)
        self.category_ids: list[int] | None = metadata.get("category_ids")
        if not self.category_ids and data_set and data_set.classes == self.classes:
            self.category_ids = data_set.category_ids
        if self.maps and self.classes and len(self.maps.maps) != len(self.classes):
            raise InputError(f"{checkpoint}: its calibration is of {len(self.maps.maps)} classes")
        self._mapper = test_mapper(self.config)
        model = trained_model(self.config, str(checkpoint), content)
        self.model = _moved(model.eval(), device)

    @torch.no_grad()
    def __call__(self, images: object, batch_size: int = 8) -> Instances | list[Instances]:
        """Detect the objects in an image, or in each of a list.

        Args:
            images: an image as :func:`detrex.data.image.as_pixels` reads it: a path, bytes, a PIL
                image, an RGB array (H, W, 3), a tensor (3, H, W); or a list or tuple of images.
            batch_size: how many images of one size (after resizing) run at once.

        Returns:
            Instances on the CPU, best score first; for a list, one for each image in its order.

        Raises:
            InputError: an image that cannot be read, or a batch of none.
        """
        if not isinstance(images, list | tuple):
            return self([images], batch_size)[0]
        if batch_size < 1:
            raise InputError(f"batch_size {batch_size}: give 1 or more")
        if self.tiles:
            return [self._in_tiles(x, f"image {i}", batch_size) for i, x in enumerate(images)]
        return self._each(images, batch_size)

    def _in_tiles(self, image: object, name: str, batch_size: int) -> Instances:
        pixels = as_pixels(image, name)
        windows = self.tiles.windows(*pixels.shape[:2])
        views = [pixels[y.start : y.stop, x.start : x.stop] for x, y in windows]
        return self.tiles.merge(pixels.shape[:2], windows, self._each(views, batch_size))

    def _each(self, images: Sequence[object], batch_size: int) -> list[Instances]:
        instances: dict[int, Instances] = {}
        batches = defaultdict(list)  # size of the model's input -> [(index of the image, input)]
        for i, image in enumerate(images):
            inputs = self.inputs(image, f"image {i}")
            size = inputs["image"].shape
            batches[size].append((i, inputs))
            if len(batches[size]) == batch_size:
                instances |= self._detect(batches.pop(size))
        for batch in batches.values():
            instances |= self._detect(batch)
        return [instances[i] for i in range(len(images))]

    def inputs(self, image: object, name: str = "image") -> dict:
        """The image as the model reads it: ``image`` (3, H, W), original ``height``, ``width``."""
        pixels = as_pixels(image, name)
        ordered = convert_PIL_to_numpy(Image.fromarray(pixels), self._mapper.img_format)
        height, width = pixels.shape[:2]
        return {"image": self._mapper.augment(ordered)[0], "height": height, "width": width}

    def _detect(self, batch: Sequence[tuple[int, dict]]) -> dict[int, Instances]:
        indices, inputs = zip(*batch, strict=True)
        detections = [self.selection(output["instances"]) for output in self.model([*inputs])]
        return dict(zip(indices, detections, strict=True))

    @torch.no_grad()
    def layers(self, image: object) -> list[Instances]:
        """What each decoder layer would detect in an image if it were the last, first layer first.

        A model that does not show its layers counts as one layer.
        """
        output = with_layers(self.model)([self.inputs(image)])[0]
        layers = output["queries"].detections if "queries" in output else [output["instances"]]
        return [self.selection(instances) for instances in layers]

    def only(self, names: Sequence[str]) -> None:
        """Return detections of these classes alone from now on.

        Raises:
            InputError: a name that is none of the classes'; the nearest ones are named.
        """
        if not self.classes:
            raise InputError("the checkpoint does not say the names of its classes")
        self.selection.labels = indices_of(names, self.classes, "classes")

    def name(self, label: int) -> str:
        """The name of a class; its number if the name is not known."""
        return self.classes[label] if self.classes else str(label)

    def labelled(self, instances: Instances) -> list[tuple[list[float], str, float]]:
        """Detections as (box, class name, score)."""
        boxes, scores = instances.pred_boxes.tensor.tolist(), instances.scores.tolist()
        names = map(self.name, instances.pred_classes.tolist())
        return list(zip(boxes, names, scores, strict=True))

    def to_dict(self, instances: Instances) -> dict:
        """Plain values for JSON: width and height of the image, and its detections.

        A detection has class, label, score and box; and, as in COCO's results, bbox (x0, y0,
        width, height) and category_id (None if unknown).
        """
        height, width = instances.image_size
        labels, detections = instances.pred_classes.tolist(), []
        for label, (box, name, score) in zip(labels, self.labelled(instances), strict=True):
            x0, y0, x1, y1 = box
            entry = {"class": name, "label": label, "score": score, "box": box}
            entry["category_id"] = self.category_ids[label] if self.category_ids else None
            detections.append({**entry, "bbox": [x0, y0, x1 - x0, y1 - y0]})
        return {"width": width, "height": height, "detections": detections}

    def to_supervision(self, instances: Instances) -> supervision.Detections:
        """Detections as ``supervision.Detections``, with ``class_name`` among their data.

        Raises:
            InputError: supervision is not installed.
        """
        need_package("supervision", "supervision")
        import supervision

        detections = supervision.Detections.from_detectron2({"instances": instances})
        names = [name for _, name, _ in self.labelled(instances)]
        detections.data["class_name"] = np.array(names, dtype=str)
        return detections

    @property
    def image_format(self) -> str:
        """Channel order that the model reads, "RGB" or "BGR"."""
        return self._mapper.img_format

    def about(self) -> dict:
        """What a program has to know to run the exported model.

        These are classes, category_ids, image_format; how images are resized: to size (height,
        width), or to short_edge and at most longest_side (None: no limit); and which detections
        this predictor returns: by nms_iou, threshold and calibrated, with the calibration
        (:class:`ScoreMaps` as a dict) if that is used.

        Raises:
            InputError: the test mapper does not only resize.
        """
        known = {"classes": self.classes, "category_ids": self.category_ids}
        known |= {"nms_iou": self.model.nms_iou, **self.selection.about()}
        return {**known, "image_format": self.image_format, **resizing(self._mapper.augmentation)}


def config_beside(checkpoint: str | Path) -> Path:
    """Return the ``config.yaml`` beside a checkpoint, or the config of a published one.

    Raises:
        InputError: there is none.
    """
    if str(checkpoint).startswith(PREFIX):
        return zoo_entry(str(checkpoint)).config_file
    beside = Path(checkpoint).parent / CONFIG_FILE
    if not beside.is_file():
        raise InputError(f"{checkpoint}: no {CONFIG_FILE} beside it: name its config file")
    return beside


def _set_num_classes(config: DictConfig, classes: list[str], checkpoint: str | Path) -> None:
    """Set the model's number of classes to the checkpoint's; as in training, only COCO's gives way.

    Raises:
        InputError: the config has another number.
    """
    for key, value, node in num_classes_fields(config.model, "model"):
        if value not in (PUBLISHED_CLASSES, len(classes)):
            raise InputError(
                f"{key}={value}, but {checkpoint} has {len(classes)} classes "
                f"({first_few(classes)}): is it of this config?"
            )
        node["num_classes"] = len(classes)


def registered_data_set(config: DictConfig) -> DatasetInfo | None:
    """The config's test set, if it is registered and has as many classes as the model."""
    metadata = metadata_of_first(OmegaConf.select(config, "dataloader.test.dataset.names"))
    classes = metadata and metadata.get("thing_classes")
    counts = {count for _, count, _ in num_classes_fields(config.model, "model")}
    return dataset_info(metadata.name) if classes and counts == {len(classes)} else None


def _moved(model: torch.nn.Module, device: str | torch.device | None) -> torch.nn.Module:
    try:
        return model.to(resolve_device(str(device or "auto"), "device"))
    except (RuntimeError, AssertionError) as error:  # what torch raises for a device it lacks
        raise InputError(f"device {device}: {first_line(error)}") from error
