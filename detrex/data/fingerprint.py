"""A fingerprint of a data set, to compare it between starts and machines of a run."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable

from .records import JoinedRecords, Records, record_bytes


def fingerprint(records: Iterable[dict]) -> dict:
    """Count the images and boxes of detectron2's records, and hash them.

    The hash covers ids, file names without their folders (data may be moved), sizes, boxes and
    classes in their order, but not the pixels.

    Returns:
        {"images": n, "boxes": n, "hash": 16 hexadecimal digits}
    """
    if isinstance(records, Records | JoinedRecords):
        return records.fingerprint()
    digest, images, boxes = hashlib.blake2b(digest_size=8), 0, 0
    for record in records:
        annotations = record.get("annotations") or []
        numbers = array("d")
        for annotation in annotations:
            numbers.extend((annotation["category_id"], annotation.get("iscrowd", 0)))
            numbers.extend(annotation["bbox"])
        height, width = (record.get(key) or 0 for key in ("height", "width"))
        digest.update(record_bytes(record.get("image_id"), record["file_name"], height, width))
        digest.update(numbers.tobytes())
        images, boxes = images + 1, boxes + len(annotations)
    return {"images": images, "boxes": boxes, "hash": digest.hexdigest()}
