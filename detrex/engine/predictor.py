"""A trained model, ready for images of any kind.

Boxes are x0, y0, x1, y1 in pixels of the given image.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.structures import Instances
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from detrex.checkpoint.files import read_checkpoint
from detrex.config import CONFIG_FILE
from detrex.data import DetrDatasetMapper
from detrex.data.custom_coco import PUBLISHED_CLASSES
from detrex.data.dataset_info import dataset_info, metadata_of_first, num_classes_fields
from detrex.data.image import as_pixels
from detrex.evaluation.alignment import with_layers
from detrex.export import Pretrained
from detrex.utils.device import resolve_device
from detrex.utils.errors import InputError
from detrex.utils.optional import need_package
from detrex.utils.text import first_few, first_line

from .run import trained_model
from .settings import load_config

if TYPE_CHECKING:
    import supervision


class Predictor(Pretrained):
    """Finds what the model of a checkpoint finds; as ``--eval-only`` reads and resizes images.

        predictor = detrex.Predictor("config.py", "model_final.pth")
        found = predictor("street.jpg")  # Instances: pred_boxes, scores, pred_classes

    Args:
        config: the model's config file; None takes the ``config.yaml`` beside the checkpoint.
        checkpoint: file of weights. The classes are the checkpoint's; where it does not know them
            (upstream's), the names are those of the data set that the config names.
        device: None takes the accelerator where there is one, else the CPU.
        threshold: least score of a detection.
        trust_config: run what a YAML config names outside of detrex and its libraries.

    Attributes:
        config: the resolved config.
        model: in evaluation mode.
        classes: name of each class, or None.
        category_ids: number of each class in the data set's JSON, or None.

    Raises:
        InputError: files that are missing, unreadable or do not belong together; a device that is
            not there.
    """

    def __init__(
        self,
        config: str | Path | None,
        checkpoint: str | Path,
        device: str | torch.device | None = None,
        threshold: float = 0.3,
        trust_config: bool = False,
    ) -> None:
        if not isinstance(threshold, int | float):
            raise InputError(f"threshold {threshold!r}: scores are numbers between 0 and 1")
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold {threshold}: scores are between 0 and 1")
        self.threshold = threshold
        content = read_checkpoint(checkpoint)
        metadata = content.get("metadata") or {}
        path = str(config or _config_beside(checkpoint))
        self.config = load_config(path, trust_config=trust_config)
        self.classes: list[str] | None = metadata.get("classes") or data_set_classes(self.config)
        ids = metadata.get("category_ids")
        self.category_ids: list[int] | None = ids or _data_set_ids(self.config, self.classes)
        if metadata.get("classes"):
            _take_classes(self.config, metadata["classes"], checkpoint)
        self._mapper = _test_mapper(self.config)
        model = trained_model(self.config, str(checkpoint), content)
        self.model = _moved(model.eval(), device)

    @property
    def image_format(self) -> str:
        """Channel order that the model reads, "RGB" or "BGR"."""
        return self._mapper.img_format

    @torch.no_grad()
    def __call__(self, images: object, batch_size: int = 8) -> Instances | list[Instances]:
        """Detect in an image, or in each of a list.

        Args:
            images: anything that :func:`detrex.data.image.as_pixels` reads: a path, bytes, a PIL
                image, an RGB array (H, W, 3), a tensor (3, H, W); or a list or tuple of such.
            batch_size: how many images of one size (after resizing) run at once.

        Returns:
            Instances on the CPU, best score first, or a list of them in the order of the images.

        Raises:
            InputError: an image that cannot be read, or a batch of none.
        """
        if not isinstance(images, list | tuple):
            return self([images])[0]
        if batch_size < 1:
            raise InputError(f"batch_size {batch_size}: give 1 or more")
        found: dict[int, Instances] = {}
        waiting = defaultdict(list)  # size of the model's input -> [(place in images, input)]
        for i, image in enumerate(images):
            inputs = self.inputs(image, f"image {i}")
            batch = waiting[inputs["image"].shape]
            batch.append((i, inputs))
            if len(batch) == batch_size:
                found |= self._detect(waiting.pop(inputs["image"].shape))
        for batch in waiting.values():
            found |= self._detect(batch)
        return [found[i] for i in range(len(images))]

    @torch.no_grad()
    def layers(self, image: object) -> list[Instances]:
        """What each decoder layer would find in an image if it were the last, first layer first.

        One list entry for a model that does not show its layers.
        """
        output = with_layers(self.model)([self.inputs(image)])[0]
        layers = output["queries"].detections if "queries" in output else [output["instances"]]
        return [self._kept(found) for found in layers]

    def inputs(self, image: object, name: str = "image") -> dict:
        """The image as the model reads it: ``image`` (3, H, W), original ``height``, ``width``."""
        pixels = as_pixels(image, name)
        ordered = convert_PIL_to_numpy(Image.fromarray(pixels), self._mapper.img_format)
        height, width = pixels.shape[:2]
        return {"image": self._mapper.augment(ordered)[0], "height": height, "width": width}

    def about(self) -> dict:
        """What a program needs that runs the exported model: classes, category_ids, image_format;
        and to what images are resized: short_edge and longest_side (None: no limit), or size
        (height, width).

        Raises InputError for a test mapper that does more, or something else, than resize.
        """
        known = {"classes": self.classes, "category_ids": self.category_ids}
        return {**known, "image_format": self.image_format, **_resizing(self._mapper.augmentation)}

    def name(self, label: int) -> str:
        """Of a class; its number if nobody knows its name."""
        return self.classes[label] if self.classes else str(label)

    def labelled(self, found: Instances) -> list[tuple[list[float], str, float]]:
        """Detections as (box, class name, score)."""
        boxes, scores = found.pred_boxes.tensor.tolist(), found.scores.tolist()
        names = map(self.name, found.pred_classes.tolist())
        return list(zip(boxes, names, scores, strict=True))

    def to_dict(self, found: Instances) -> dict:
        """Plain values for JSON: width, height, detections of class, label, score and box; and, as
        COCO's results have them, bbox (x0, y0, width, height) and category_id, None if unknown."""
        height, width = found.image_size
        detections = []
        for label, (box, name, score) in zip(
            found.pred_classes.tolist(), self.labelled(found), strict=True
        ):
            x0, y0, x1, y1 = box
            entry = {"class": name, "label": label, "score": score, "box": box}
            category = self.category_ids[label] if self.category_ids else None
            detections.append(
                {**entry, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            )
        return {"width": width, "height": height, "detections": detections}

    def to_supervision(self, found: Instances) -> supervision.Detections:
        """Detections as ``supervision.Detections``, with ``class_name`` among their data.

        Raises InputError where supervision is not installed.
        """
        need_package("supervision", "supervision")
        import supervision

        detections = supervision.Detections.from_detectron2({"instances": found})
        names = [name for _, name, _ in self.labelled(found)]
        detections.data["class_name"] = np.array(names, dtype=str)
        return detections

    def _detect(self, batch: Sequence[tuple[int, dict]]) -> dict[int, Instances]:
        outputs = self.model([inputs for _, inputs in batch])
        found = [self._kept(output["instances"]) for output in outputs]
        return {place: f for (place, _), f in zip(batch, found, strict=True)}

    def _kept(self, found: Instances) -> Instances:
        """Those over the threshold, best first: models with a softmax do not sort theirs."""
        found = found.to("cpu")
        found = found[found.scores.argsort(descending=True, stable=True)]
        return found[found.scores >= self.threshold]


def _config_beside(checkpoint: str | Path) -> Path:
    beside = Path(checkpoint).parent / CONFIG_FILE
    if not beside.is_file():
        raise InputError(f"{checkpoint}: no {CONFIG_FILE} beside it: name its config file")
    return beside


def _take_classes(config: DictConfig, classes: list[str], checkpoint: str | Path) -> None:
    """Give the model the checkpoint's number of classes; as in training, only COCO's gives way."""
    for key, value, node in num_classes_fields(config.model, "model"):
        if value not in (PUBLISHED_CLASSES, len(classes)):
            raise InputError(
                f"{key}={value}, but {checkpoint} has {len(classes)} classes "
                f"({first_few(classes)}): is it of this config?"
            )
        node["num_classes"] = len(classes)


def data_set_classes(config: DictConfig) -> list[str] | None:
    """Names of the classes of the config's data set, if it is a known one and as large."""
    metadata = metadata_of_first(OmegaConf.select(config, "dataloader.test.dataset.names"))
    known = metadata and metadata.get("thing_classes")
    counts = {count for _, count, _ in num_classes_fields(config.model, "model")}
    return list(known) if known and counts == {len(known)} else None


def _data_set_ids(config: DictConfig, classes: list[str] | None) -> list[int] | None:
    """Category ids of the config's data set, if it is a known one of these classes."""
    metadata = metadata_of_first(OmegaConf.select(config, "dataloader.test.dataset.names"))
    if metadata is None or classes is None or metadata.get("thing_classes") != classes:
        return None
    return dataset_info(metadata.name).category_ids


def _test_mapper(config: DictConfig) -> DetrDatasetMapper:
    node = OmegaConf.select(config, "dataloader.test.mapper")
    mapper = node and instantiate(node)
    if not isinstance(mapper, DetrDatasetMapper):
        raise InputError(
            "dataloader.test.mapper, which says how images are resized, must be a "
            f"DetrDatasetMapper: it is a {type(mapper).__name__}"
        )
    return mapper


def _resizing(augmentation: Sequence[T.Augmentation]) -> dict:
    kinds = [type(one) for one in augmentation]
    if kinds == [T.Resize]:
        return {"size": list(augmentation[0].shape)}
    if kinds == [T.ResizeShortestEdge] and len(set(augmentation[0].short_edge_length)) == 1:
        longest = augmentation[0].max_size
        limit = {"longest_side": None if longest == sys.maxsize else longest}
        return {"short_edge": augmentation[0].short_edge_length[0], **limit}
    names = ", ".join(kind.__name__ for kind in kinds) or "nothing"
    raise InputError(
        f"dataloader.test.mapper.augmentation is {names}: a file can say how images are resized "
        "for one Resize, or one ResizeShortestEdge of one length"
    )


def _moved(model: torch.nn.Module, device: str | torch.device | None) -> torch.nn.Module:
    try:
        return model.to(resolve_device(str(device or "auto"), "device"))
    except (RuntimeError, AssertionError) as error:  # of a device that does not work
        raise InputError(f"device {device}: {first_line(error)}") from error
