"""From a COCO JSON to detectron2's dataset dicts, with the checks that hand-made data needs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from detrex.utils.errors import InputError
from detrex.utils.text import first_few

from .coco_columns import LARGE, Columns, class_names
from .coco_index import read_columns
from .coco_rules import untrained_classes
from .image_files import check_images
from .records import Records

logger = logging.getLogger(__name__)


class CocoData(NamedTuple):
    """A data set: what :func:`read_coco` returns."""

    records: Sequence[dict]  # detectron2 dataset dicts, by image id
    categories: dict[int, str]  # id -> name, by id; the i-th one is class i


def load_coco(json_file: str, image_root: str, training: bool = False) -> Sequence[dict]:
    """Return detectron2 dataset dicts; see :func:`read_coco`."""
    return read_coco(json_file, image_root, training).records


def read_coco(json_file: str, image_root: str, training: bool = False) -> CocoData:
    """Read and check a detection data set in COCO format.

    Boxes of the records are x0, y0, x1, y1 in pixels, clipped to the image; ``category_id`` is the
    class index 0..K-1 in the order of the JSON's (maybe sparse) ids. Crowd regions stay in the
    records, marked by ``iscrowd``. One warning counts and names the boxes that are dropped because
    they are not finite or have no area inside the image. Others name categories of the same name
    and ids of the same image file, which stay apart, classes that are never trained on, and
    validation data without objects.

    The records are a list, or, of 100,000 annotations and more, made when they are looked at
    (:class:`detrex.data.records.Records`).

    Args:
        json_file: the annotations.
        image_root: folder of the images; file names may contain sub-folders, files may be links.
        training: require at least one box to train on.

    Raises:
        InputError: naming the file and the first entry that is wrong.
    """
    records = read_records(json_file, image_root, training)
    columns = records.columns
    is_large = len(columns.id) >= LARGE
    return CocoData(records if is_large else list(records), columns.categories)


def read_records(json_file: str, image_root: str, training: bool = False) -> Records:
    """As :func:`read_coco`, with records that are made when they are looked at."""
    columns = read_columns(json_file)
    check_images(json_file, image_root, columns)
    _check_conventions(json_file, columns)
    names = class_names(columns)
    pairs = zip(names, columns.categories.values(), strict=True)
    if doubles := [name for name, in_json in pairs if name != in_json]:
        logger.warning("%s: classes of one name: %s", json_file, first_few(doubles))
    _check_objects(json_file, columns, names, training)
    return Records(columns, json_file, image_root)


def _check_conventions(json_file: str, columns: Columns) -> None:
    """Refuse boxes in fractions; warn of boxes that look like corners, and of dropped ones."""
    summary = columns.summary
    if summary.fractions:
        raise InputError(
            f"{json_file}: all {len(columns.id)} boxes lie within 0 to 1, as fractions of "
            "the image: a COCO bbox is x, y, width, height in pixels"
        )
    if summary.corners:
        logger.warning(
            f"{json_file}: {summary.corners} boxes leave their image, and all would fit as corners "
            "x0, y0, x1, y1: a COCO bbox is x, y, width, height"
        )
    if summary.dropped:
        reasons = "; ".join(
            f"{count} {fault} (annotations {first_few([*map(str, ids)], 5)})"
            for fault, (count, ids) in summary.dropped.items()
        )
        total = sum(count for count, _ in summary.dropped.values())
        logger.warning("%s: dropped %d boxes: %s", json_file, total, reasons)


def _check_objects(json_file: str, columns: Columns, names: list[str], training: bool) -> None:
    """Refuse to train on nothing; warn of classes, or validation data, without a box."""
    summary = columns.summary
    if not any(summary.trained):
        crowds, dropped = sum(summary.crowds), len(columns.id) - sum(summary.crowds)
        reasons = [f"{crowds} crowd regions (iscrowd 1)"] if crowds else []
        reasons += [f"{dropped} boxes that are dropped"] if dropped else []
        reason = f"it has {' and '.join(reasons) or 'no annotations'}"
        if training:
            raise InputError(f"{json_file}: no usable annotation to train on: {reason}")
        logger.warning(f"{json_file}: no objects, so that nothing can be scored: {reason}")
        return
    classes = untrained_classes(names, summary.trained, summary.crowds) if training else []
    if classes:
        logger.warning(f"{json_file}: classes that are never trained on: {first_few(classes)}")
