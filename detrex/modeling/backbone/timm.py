"""Any timm model as a backbone."""

from __future__ import annotations

from collections.abc import Sequence

import timm
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn

from detrex.utils.errors import InputError


class TimmBackbone(Backbone):
    """``timm.create_model(model_name, features_only=True)``; level i is called ``p{i}``.

    ``frozen_prefixes`` names the parts (beginnings of timm's parameter names) that are not
    trained; ``frozen_norm`` keeps every batch norm at its loaded statistics, as detection with
    few images per batch needs. ``pretrained`` downloads timm's weights, ``checkpoint_path`` reads
    a file.

    Raises:
        InputError: for a model timm does not know, or a prefix that matches no parameter.
    """

    def __init__(
        self,
        model_name: str,
        features_only: bool = True,
        pretrained: bool = False,
        checkpoint_path: str = "",
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        norm_layer: type[nn.Module] | None = None,
        frozen_prefixes: Sequence[str] = (),
        frozen_norm: bool = False,
    ) -> None:
        super().__init__()
        if not timm.is_model(model_name):
            near = timm.list_models(f"*{model_name[:6]}*")[:5]
            raise InputError(f"timm has no model {model_name!r}; similar names: {near}")
        options = {} if norm_layer is None else {"norm_layer": norm_layer}
        self.timm_model = timm.create_model(
            model_name,
            features_only=features_only,
            pretrained=pretrained,
            checkpoint_path=checkpoint_path,
            in_chans=in_channels,
            out_indices=tuple(out_indices),
            **options,
        ).to(memory_format=torch.channels_last)
        self.names = [f"p{i}" for i in out_indices]
        self.frozen_norm = frozen_norm
        self._freeze(tuple(frozen_prefixes))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to features (B, C, H / stride, W / stride) by name."""
        levels = self.timm_model(x.contiguous(memory_format=torch.channels_last))
        return dict(zip(self.names, levels, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        info = self.timm_model.feature_info
        shapes = zip(self.names, info.channels(), info.reduction(), strict=True)
        return {name: ShapeSpec(channels=c, stride=s) for name, c, s in shapes}

    def train(self, mode: bool = True) -> TimmBackbone:
        super().train(mode)
        if self.frozen_norm:
            for norm in self._norms():
                norm.eval()
        return self

    def _norms(self) -> list[nn.Module]:
        return [m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def _freeze(self, prefixes: tuple[str, ...]) -> None:
        names = dict(self.timm_model.named_parameters())
        for prefix in prefixes:
            matching = [p for name, p in names.items() if f"{name}.".startswith(f"{prefix}.")]
            if not matching:
                raise InputError(f"backbone.frozen_prefixes: {prefix!r} matches no parameter")
            for parameter in matching:
                parameter.requires_grad_(False)
        if self.frozen_norm:
            for parameter in (p for norm in self._norms() for p in norm.parameters()):
                parameter.requires_grad_(False)
