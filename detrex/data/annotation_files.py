"""Where a config's images and their COCO JSON are."""

from __future__ import annotations

import os
from collections.abc import Mapping

from detrex.utils.errors import InputError

from .dataset_info import SPLITS, metadata_of_first


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
        names = ((dataloader.get(SPLITS[split]) or {}).get("dataset") or {}).get("names")
        metadata = metadata_of_first(names)
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
