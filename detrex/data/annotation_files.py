"""Where a config's images and their COCO JSON are."""

from __future__ import annotations

import os
from collections.abc import Mapping

from detrex.utils.errors import InputError

from .dataset_info import SPLITS, metadata_of_first


def annotation_files(config: Mapping, split: str = "val") -> tuple[str, str]:
    """Return the COCO JSON and the image folder of a config's data.

    They are those of ``dataloader.dataset``, or else of the registered data set.

    Args:
        config: resolved; plain dicts or an omegaconf node.
        split: "train" or "val".

    Raises:
        InputError: the config names no data with ground truth, or its files are not here.
    """
    paths = _section(config, "dataloader", "dataset", split)
    json_file, images = paths.get("json"), paths.get("images")
    if not json_file:
        dataset = _section(config, "dataloader", SPLITS[split], "dataset")
        metadata = metadata_of_first(dataset.get("names"))
        json_file = metadata and metadata.get("json_file")
        images = metadata and metadata.get("image_root")
    if not all(path and isinstance(path, str | os.PathLike) for path in (json_file, images)):
        raise InputError(
            f"the config names no ground truth: set dataloader.dataset.{split}.{{json,images}}"
        )
    for path in (json_file, images):
        if not os.path.exists(path):
            raise InputError(f"{path}: not found from here; the config names it as its data")
    if not os.path.isfile(json_file):  # to read a FIFO or a device may never end
        raise InputError(f"{json_file}: no file; the config names it as its data")
    return str(json_file), str(images)


def _section(config: Mapping, *keys: str) -> Mapping:
    """Return the config's section at these keys; {} if there is none."""
    for key in keys:
        config = config.get(key)
        if not isinstance(config, Mapping):
            return {}
    return config
