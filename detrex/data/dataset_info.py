"""The classes and files of registered data sets, and whether a model has as many classes."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from omegaconf import DictConfig, ListConfig, OmegaConf

from detrex.utils.errors import InputError
from detrex.utils.text import first_few

SPLITS = {"train": "train", "val": "test"}  # split -> its loader in cfg.dataloader


@dataclass(frozen=True)
class DatasetInfo:
    """Class i of the model is named ``classes[i]`` and is ``category_ids[i]`` in the JSON."""

    classes: list[str]
    category_ids: list[int]


def dataset_info(names: str | Sequence[str]) -> DatasetInfo:
    """Return the classes of a registered data set, or of the first of several.

    Raises:
        InputError: the data set's metadata has no class names.
    """
    name = _as_list(names)[0]
    metadata = MetadataCatalog.get(name)
    if metadata.get("thing_classes") is None and name in DatasetCatalog:
        DatasetCatalog.get(name)  # reading a user's JSON, detectron2 fills in its metadata
    classes = metadata.get("thing_classes")
    if classes is None:
        raise InputError(f"data set {name!r} has no thing_classes in its metadata: set them")
    to_class = metadata.get("thing_dataset_id_to_contiguous_id")
    ids = sorted(to_class, key=to_class.get) if to_class else range(len(classes))
    return DatasetInfo(list(classes), list(ids))


def metadata_of_first(names: str | Sequence[str] | None) -> Metadata | None:
    """Return the metadata of the first data set; None if there is none, or it is not registered."""
    first = _as_list(names)[0] if names and isinstance(names, Sequence) else None
    known = isinstance(first, str) and first in MetadataCatalog
    return MetadataCatalog.get(first) if known else None


def check_dataset_files(names: str | Sequence[str]) -> None:
    """Check that data sets are registered and that their JSON and image folder exist.

    Raises:
        InputError: naming the data set, what is missing, and the two ways to say where it is.
    """
    for name in _as_list(names):
        if name not in DatasetCatalog:
            near = difflib.get_close_matches(name, DatasetCatalog.list(), n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise InputError(
                f"data set {name!r} is not registered{hint}: for your own data set "
                "dataloader.dataset.{train,val}.{json,images}"
            )
        metadata = MetadataCatalog.get(name)
        for path in (metadata.get("json_file"), metadata.get("image_root")):
            if path is not None and not os.path.exists(path):
                raise InputError(
                    f"data set {name!r}: {path} not found: set the environment variable "
                    "DETECTRON2_DATASETS to the folder that holds coco/, or "
                    "dataloader.dataset.{train,val}.{json,images} to your own data"
                )


def num_classes_fields(node: DictConfig | ListConfig, path: str) -> Iterator[tuple[str, int, dict]]:
    """Yield (dotted key, value, the node that holds it) of every ``num_classes`` that is set."""
    for key in node if OmegaConf.is_dict(node) else range(len(node)):
        name = f"{path}.{key}"
        if key == "num_classes":
            if node[key] is not None:
                yield name, node[key], node
        elif not OmegaConf.is_interpolation(node, key) and OmegaConf.is_config(node[key]):
            yield from num_classes_fields(node[key], name)


def check_num_classes(cfg: DictConfig, info: DatasetInfo) -> None:
    """Check that every ``num_classes`` under ``cfg.model`` is the data set's.

    Raises:
        InputError: naming the key and both numbers.
    """
    for key, value, _ in num_classes_fields(cfg.model, "model"):
        if value != len(info.classes):
            raise class_count_error(key, value, info)


def class_count_error(key: str, value: int, info: DatasetInfo) -> InputError:
    """Return the error for a model that disagrees with its data."""
    count = len(info.classes)
    shown = first_few(info.classes)
    return InputError(
        f"{key}={value}, but the data set has {count} classes ({shown}): set it to {count}"
    )


def _as_list(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
