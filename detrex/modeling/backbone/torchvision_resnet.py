"""torchvision's ResNet as a backbone: its weight files load as they are."""

from __future__ import annotations

from collections.abc import Mapping

import torchvision
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling.backbone import Backbone
from torch import Tensor
from torchvision.models._utils import IntermediateLayerGetter

LAYERS = ("layer1", "layer2", "layer3", "layer4")
MODELS = torchvision.models.list_models(torchvision.models, include=("resne*", "wide_resnet*"))


class TorchvisionResNet(Backbone):
    """A torchvision ResNet with frozen batch norms, under ``body``.

    ``return_layers`` renames torchvision's layers; ``dilation`` replaces the last stride by a
    dilation (DC5). The stem and the first layer are never trained, the rest only with
    ``train_backbone`` (DETR, Carion et al. 2020, section A.4).

    Raises:
        ValueError: if torchvision has no ResNet of that name.
    """

    def __init__(
        self,
        name: str,
        train_backbone: bool,
        return_layers: Mapping[str, str] = {"layer4": "res5"},
        dilation: bool = False,
    ) -> None:
        super().__init__()
        if name not in MODELS:
            raise ValueError(f"backbone.name is one of {MODELS}, got {name!r}")
        model = torchvision.models.get_model(
            name,
            weights=None,
            norm_layer=FrozenBatchNorm2d,
            replace_stride_with_dilation=[False, False, dilation],
        )
        trained = LAYERS[1:] if train_backbone else ()
        for key, parameter in model.named_parameters():
            parameter.requires_grad_(key.startswith(trained))
        width = model.fc.in_features
        strides = (4, 8, 16, 16 if dilation else 32)
        self._shapes = {
            new: ShapeSpec(
                channels=width >> (3 - LAYERS.index(old)), stride=strides[LAYERS.index(old)]
            )
            for old, new in return_layers.items()
        }
        self.body = IntermediateLayerGetter(model, dict(return_layers))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to features (B, C, H / stride, W / stride) by name."""
        return self.body(x)

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(self._shapes)
