"""Data sets of a config: several joined to one, and their records as a loader takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.data.build import filter_images_with_only_crowd_annotations

from detrex.utils.errors import InputError
from detrex.utils.text import first_few

from .coco_columns import LARGE
from .coco_format import read_records
from .coco_index import read_columns
from .records import JoinedRecords, Records


class Source(NamedTuple):
    """A JSON with its images, and how often an image comes in an epoch, on average."""

    json_file: str
    images: str
    weight: float = 1


def joint_classes(json_files: Sequence[str]) -> dict[str, int]:
    """Return name -> class of several data sets: those of the first one, then what is new.

    Raises:
        InputError: a data set has two classes of one name.
    """
    classes: dict[str, int] = {}
    for json_file in json_files:
        names = list(read_columns(json_file).categories.values())
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(
                f"{json_file}: two classes are named {twice!r}: data sets are joined by name"
            )
        for name in names:
            classes.setdefault(name, len(classes))
    return classes


def class_ids(json_file: str, classes: dict[str, int]) -> dict[int, int]:
    """Return category id -> class of a data set whose classes are among some.

    Raises:
        InputError: names the classes that are not.
    """
    categories = read_columns(json_file).categories
    if unknown := [repr(name) for name in categories.values() if name not in classes]:
        raise InputError(
            f"{json_file}: {len(unknown)} of its classes are in no data set of "
            f"dataloader.dataset.train: {first_few(unknown)}"
        )
    return {id_: classes[name] for id_, name in categories.items()}


def load_joined(
    sources: Sequence[Source], classes: dict[str, int], training: bool
) -> JoinedRecords | Records | list[dict]:
    """Return the records of several data sets, or of one, with joint classes."""
    data_sets = []
    for source in sources:
        data = read_records(source.json_file, source.images, training)
        to_joint = np.array(list(class_ids(source.json_file, classes).values()))
        data_sets.append(Records(data.columns, data.json_file, data.image_root, classes=to_joint))
    if len(data_sets) > 1:
        return JoinedRecords(data_sets, [source.weight for source in sources])
    return data_sets[0] if len(data_sets[0].columns.id) >= LARGE else list(data_sets[0])


def registered_records(names: str, filter_empty: bool = True) -> Sequence[dict]:
    """Return the records of a registered data set, which may be made when they are looked at.

    As detectron2's ``get_detection_dataset_dicts``, which would make all of them.

    Args:
        names: of the data set.
        filter_empty: leave out images without a box that is no crowd region.
    """
    records = DatasetCatalog.get(names)
    if not filter_empty:
        return records
    if isinstance(records, list):
        return filter_images_with_only_crowd_annotations(records)
    return records.with_objects()
