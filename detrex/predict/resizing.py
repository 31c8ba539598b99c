"""How a config's test images are resized."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from detectron2.config import instantiate
from detectron2.data import transforms as T
from omegaconf import DictConfig, OmegaConf

from detrex.data.mapper import DetrDatasetMapper
from detrex.utils.errors import InputError


def test_mapper(config: DictConfig) -> DetrDatasetMapper:
    """The mapper that resizes images for evaluation.

    Raises:
        InputError: it is none of detrex's.
    """
    node = OmegaConf.select(config, "dataloader.test.mapper")
    mapper = node and instantiate(node)
    if not isinstance(mapper, DetrDatasetMapper):
        raise InputError(
            "dataloader.test.mapper, which says how images are resized, must be a "
            f"DetrDatasetMapper: it is a {type(mapper).__name__}"
        )
    return mapper


def resizing(augmentation: Sequence[T.Augmentation]) -> dict:
    """How images are resized, by the names of ``Predictor.about``.

    Raises:
        InputError: not by one Resize or ResizeShortestEdge alone.
    """
    kinds = [type(step) for step in augmentation]
    if kinds == [T.Resize]:
        return {"size": list(augmentation[0].shape)}
    if kinds == [T.ResizeShortestEdge] and len(set(augmentation[0].short_edge_length)) == 1:
        longest = augmentation[0].max_size
        limit = None if longest == sys.maxsize else longest
        return {"short_edge": augmentation[0].short_edge_length[0], "longest_side": limit}
    names = ", ".join(kind.__name__ for kind in kinds) or "nothing"
    raise InputError(
        f"dataloader.test.mapper.augmentation is {names}: a file can say how images are resized "
        "for one Resize, or one ResizeShortestEdge of one length"
    )
