"""A fingerprint of a data set, to compare it between starts and machines of a run."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable


def fingerprint(records: Iterable[dict]) -> dict:
    """Count the images and boxes of detectron2's records, and hash them.

    The hash covers ids, file names without their folders (data may be moved), sizes, boxes and
    classes in their order, but not the pixels.

    Returns:
        {"images": n, "boxes": n, "hash": 16 hexadecimal digits}
    """
    digest, images, boxes = hashlib.blake2b(digest_size=8), 0, 0
    for record in records:
        annotations = record.get("annotations") or []
        numbers = array("d", (record.get("height") or 0, record.get("width") or 0))
        for annotation in annotations:
            numbers.extend((annotation["category_id"], annotation.get("iscrowd", 0)))
            numbers.extend(annotation["bbox"])
        name = f"{record.get('image_id')}\0{os.path.basename(record['file_name'])}\0"
        digest.update(name.encode(errors="surrogateescape") + numbers.tobytes())
        images, boxes = images + 1, boxes + len(annotations)
    return {"images": images, "boxes": boxes, "hash": digest.hexdigest()}
