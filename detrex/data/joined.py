"""Data sets of a config: several joined to one, and their records as a loader takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.data.build import filter_images_with_only_crowd_annotations

from detrex.utils.errors import InputError
from detrex.utils.text import first_few

from .coco_columns import LARGE
from .coco_format import read_records
from .records import JoinedRecords, Records

Categories = Mapping[int, str]  # id -> name


class Source(NamedTuple):
    """A JSON with its images, and how often an image comes in an epoch, on average."""

    json_file: str
    images: str
    weight: float = 1


def joint_classes(data_sets: Mapping[str, Categories]) -> dict[str, int]:
    """Return name -> class of several data sets: those of the first one, then what is new.

    Args:
        data_sets: JSON -> its categories, id -> name.

    Raises:
        InputError: a data set has two classes of one name.
    """
    classes: dict[str, int] = {}
    for json_file, categories in data_sets.items():
        names = list(categories.values())
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(
                f"{json_file}: two classes are named {twice!r}: data sets are joined by name"
            )
        for name in names:
            classes.setdefault(name, len(classes))
    return classes


def class_ids(data: Records, classes: Mapping[str, int]) -> dict[int, int]:
    """Return category id -> class of a data set whose classes are among some.

    Raises:
        InputError: names the classes that are not.
    """
    categories = data.columns.categories
    if unknown := [repr(name) for name in categories.values() if name not in classes]:
        raise InputError(
            f"{data.json_file}: {len(unknown)} of its classes are in no data set of "
            f"dataloader.dataset.train: {first_few(unknown)}"
        )
    return {id_: classes[name] for id_, name in categories.items()}


def read_sources(sources: Sequence[Source], training: bool) -> list[Records]:
    """Return the records of each data set, with its own classes."""
    return [read_records(source.json_file, source.images, training) for source in sources]


def join(
    data_sets: Sequence[Records], sources: Sequence[Source], classes: Mapping[str, int]
) -> JoinedRecords | Records | list[dict]:
    """Return the records of several data sets, or of one, with joint classes.

    Args:
        data_sets: of :func:`read_sources`.
        sources: where they are from, with their weights.
        classes: joint classes.
    """
    joint = []
    for data in data_sets:
        to_joint = np.array(list(class_ids(data, classes).values()))
        joint.append(Records(data.columns, data.json_file, data.image_root, classes=to_joint))
    if len(joint) > 1:
        return JoinedRecords(joint, [source.weight for source in sources])
    return joint[0] if len(joint[0].columns.id) >= LARGE else list(joint[0])


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
