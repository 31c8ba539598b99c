"""Where a config's images and their COCO JSON are."""

from __future__ import annotations

import os
from collections.abc import Mapping

from detectron2.data import MetadataCatalog

from detrex.utils.errors import InputError

LOADERS = {"train": "train", "val": "test"}  # split -> the part of dataloader that reads it


def annotation_files(config: Mapping, split: str = "val") -> tuple[str, str]:
    """Return a config's COCO JSON and image folder, of ``dataloader.dataset`` or a registered set.

    Args:
        config: resolved, as plain dicts or an omegaconf node.
        split: "train" or "val".

    Raises:
        InputError: the config names no data with ground truth, or its files are not here.
    """
    dataloader = config.get("dataloader") or {}
    own = (dataloader.get("dataset") or {}).get(split) or {}
    json_file, images = own.get("json"), own.get("images")
    if not json_file:
        names = ((dataloader.get(LOADERS[split]) or {}).get("dataset") or {}).get("names")
        name = names if isinstance(names, str) or not names else names[0]
        metadata = MetadataCatalog.get(name) if name in MetadataCatalog else None
        json_file = metadata and metadata.get("json_file")
        images = metadata and metadata.get("image_root")
    if not json_file or not images:
        raise InputError(
            f"the config names no ground truth: set dataloader.dataset.{split}.{{json,images}}"
        )
    for path in (json_file, images):
        if not os.path.exists(path):
            raise InputError(f"{path}: not found from here; the config names it as its data")
    return str(json_file), str(images)
