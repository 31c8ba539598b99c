"""Upstream's torchvision backbone, and the learning rates of its ViTs' layers."""

from __future__ import annotations

from collections.abc import Mapping

import torchvision
from detectron2.modeling.backbone import Backbone, vit
from torch import Tensor
from torchvision.models.feature_extraction import create_feature_extractor

__all__ = ["TorchvisionBackbone", "get_vit_lr_decay_rate"]

RESNET_NODES = {f"layer{i}": f"res{i + 1}" for i in (1, 2, 3, 4)}


def get_vit_lr_decay_rate(name: str, lr_decay_rate: float = 1.0, num_layers: int = 12) -> float:
    """detectron2's factor on a parameter's learning rate, for timm's ViTs as well.

    Their class and register tokens belong to the embeddings: they learn at the lowest rate.
    """
    token = name.startswith("backbone") and name.endswith(("cls_token", "reg_token"))
    return vit.get_vit_lr_decay_rate(
        f"{name}.pos_embed" if token else name, lr_decay_rate, num_layers
    )


class TorchvisionBackbone(Backbone):
    """Features of any torchvision model, by torchvision's feature extraction.

    ``return_nodes`` maps nodes of the model to names of features; ``pretrained`` downloads
    torchvision's weights, further arguments go to its constructor.
    """

    def __init__(  # frozen: upstream's signature
        self,
        model_name: str = "resnet50",
        pretrained: bool = False,
        return_nodes: Mapping[str, str] = RESNET_NODES,
        train_return_nodes: Mapping[str, str] | None = None,
        eval_return_nodes: Mapping[str, str] | None = None,
        tracer_kwargs: Mapping[str, object] | None = None,
        suppress_diff_warnings: bool = False,
        **kwargs,
    ) -> None:
        super().__init__()
        weights = {"weights": "DEFAULT"} if pretrained else {}
        self.model = getattr(torchvision.models, model_name)(**weights, **kwargs)
        apart = train_return_nodes is not None or eval_return_nodes is not None
        self.feature_extractor = create_feature_extractor(
            self.model,
            None if apart else dict(return_nodes),
            train_return_nodes,
            eval_return_nodes,
            tracer_kwargs,
            suppress_diff_warnings,
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to features (B, C, H', W') by name."""
        return self.feature_extractor(x)
