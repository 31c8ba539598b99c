"""Any timm model as a backbone."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence

import timm
import torch
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import Backbone
from omegaconf import DictConfig
from timm.layers import convert_sync_batchnorm
from timm.models._features import FeatureGetterNet, FeatureInfo  # public names lack the first
from torch import Tensor, nn

from detrex.modeling.neck import with_channel_mapper
from detrex.utils.errors import InputError

from .adapter import STRIDES, SpatialAdapter
from .vit import SimpleFeaturePyramid, on_whole_patches


class NormalisedLayers(FeatureGetterNet):
    """timm's layers of a ViT, each after the ViT's last norm."""

    def __init__(self, model: nn.Module, **options) -> None:
        super().__init__(model, norm=True, **options)


class TimmBackbone(Backbone):
    """``timm.create_model(model_name, features_only=True)``; level i is called ``p{i}``.

    ``frozen_prefixes`` names the parts (beginnings of timm's parameter names) that are not
    trained; ``frozen_norm`` keeps every batch norm at its loaded statistics, as detection with
    few images per batch needs; ``sync_norm`` has them computed over the images of all processes.
    ``pretrained`` downloads timm's weights, ``checkpoint_path`` reads a file. ``use_checkpoint``
    computes blocks again in the backward pass instead of keeping them. ``last_norm`` gives each
    level of a ViT the norm after its last layer, which is left out else. ``model_options`` are
    further arguments of timm's model; a transformer needs what frees it from one image size:
    ``strict_img_size=False`` (Swin), ``dynamic_img_size=True`` (ViT).

    A model that cuts images into patches by convolutions (ConvNeXt) drops the last, partial patch
    of a side: give it images whose sides are multiples of 32 where a few pixels matter.

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
        use_checkpoint: bool = False,
        sync_norm: bool = False,
        last_norm: bool = False,
        model_options: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        _check_known(model_name)
        options = {} if norm_layer is None else {"norm_layer": norm_layer}
        options |= {"feature_cls": NormalisedLayers} if last_norm else {}
        self.timm_model = timm.create_model(
            model_name,
            features_only=features_only,
            pretrained=pretrained,
            checkpoint_path=checkpoint_path,
            in_chans=in_channels,
            out_indices=tuple(out_indices),
            **options,
            **(model_options or {}),
        ).to(memory_format=torch.channels_last)
        if sync_norm:
            self.timm_model = convert_sync_batchnorm(self.timm_model)
        # Swin's features come as (B, H, W, C), and only of whole patches.
        self.channels_come_last = getattr(self.timm_model, "output_fmt", "NCHW") == "NHWC"
        self.names = [f"p{i}" for i in out_indices]
        self.frozen_norm = frozen_norm
        if use_checkpoint:
            modules = self.timm_model.modules()
            outermost = next(m for m in modules if hasattr(m, "set_grad_checkpointing"))
            outermost.set_grad_checkpointing()
        self._freeze(tuple(frozen_prefixes))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to features (B, C, H / stride, W / stride) by name."""
        if not self.channels_come_last:
            return self._levels(x)
        strides = self.timm_model.feature_info.reduction()
        return on_whole_patches(self._levels, x, dict(zip(self.names, strides, strict=True)))

    def _levels(self, x: Tensor) -> dict[str, Tensor]:
        levels = self.timm_model(x.contiguous(memory_format=torch.channels_last))
        if self.channels_come_last:
            levels = [level.permute(0, 3, 1, 2) for level in levels]
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


def timm_parts(model_name: str, num_channels: int = 256, **options) -> dict:
    """Backbone and neck for a multi-scale model's config: ``model.update(timm_parts("..."))``.

    The levels of strides 8, 16 and 32, and one more on top. A plain ViT, all of whose layers have
    the stride of its patches, gets a :class:`SimpleFeaturePyramid` of half, once and twice that
    stride. ``options`` go to ``TimmBackbone``.

    Raises:
        InputError: a model that timm does not know, that has not these levels, or that takes
            images of one size only.
    """
    info, is_plain_vit = _features(model_name)
    if is_plain_vit:
        return _pyramid_parts(model_name, num_channels, info.info[-1], **options)
    strides = info.reduction()
    if not {8, 16, 32} <= set(strides):
        raise InputError(f"timm's {model_name} has levels of strides {strides}, not 8, 16 and 32")
    levels = [strides.index(stride) for stride in (8, 16, 32)]
    backbone = L(TimmBackbone)(model_name=model_name, out_indices=levels, **options)
    return with_channel_mapper(
        backbone, {f"p{i}": info.channels()[i] for i in levels}, num_channels
    )


def adapter_parts(model_name: str, num_channels: int = 256, width: int = 16, **options) -> dict:
    """As :func:`timm_parts` for a plain ViT under a :class:`SpatialAdapter` of ``width``.

    Levels of strides 8, 16 and 32 stand on the layers at half, three quarters and the end of the
    depth. ``options`` go to ``TimmBackbone``.

    Raises:
        InputError: a model that timm does not know, that is no plain ViT, or that takes images of
            one size only.
    """
    info, is_plain_vit = _features(model_name)
    if not is_plain_vit:
        raise InputError(f"timm's {model_name} is no plain ViT: use timm_parts without an adapter")
    depth = len(info)
    layers = [depth // 2 - 1, depth * 3 // 4 - 1, depth - 1]
    net = _plain_vit(model_name, layers, last_norm=True, **options)
    adapter = L(SpatialAdapter)(net=net, width=width, out_channels=num_channels)
    return with_channel_mapper(adapter, dict.fromkeys(STRIDES, num_channels), num_channels)


def _pyramid_parts(
    model_name: str, num_channels: int, last_layer: Mapping[str, int], **options
) -> dict:
    index, stride = last_layer["index"], last_layer["reduction"]
    net = _plain_vit(model_name, [index], **options)
    scales = (2.0, 1.0, 0.5)
    pyramid = L(SimpleFeaturePyramid)(
        net=net, in_feature=f"p{index}", out_channels=num_channels, scale_factors=scales
    )
    names = [f"p{int(math.log2(stride / scale))}" for scale in scales]  # detectron2's
    return with_channel_mapper(pyramid, dict.fromkeys(names, num_channels), num_channels)


def _plain_vit(
    model_name: str,
    layers: Sequence[int],
    model_options: Mapping[str, object] | None = None,
    **options,
) -> DictConfig:
    any_size = dict(dynamic_img_size=True, **(model_options or {}))
    return L(TimmBackbone)(
        model_name=model_name, out_indices=layers, model_options=any_size, **options
    )


def _features(model_name: str) -> tuple[FeatureInfo, bool]:
    """timm's account of the model's levels; whether it is a plain ViT, of one stride.

    Raises:
        InputError: a model that timm does not know; a ViT that takes images of one size only.
    """
    _check_known(model_name)
    with torch.device("meta"):  # no weights
        network = timm.create_model(model_name, features_only=True)
    strides = network.feature_info.reduction()
    is_plain_vit = len(strides) > 1 and len(set(strides)) == 1
    if is_plain_vit and "dynamic_img_size" not in inspect.signature(type(network.model)).parameters:
        raise InputError(f"timm's {model_name} takes images of one size only: take another ViT")
    return network.feature_info, is_plain_vit


def _check_known(model_name: str) -> None:
    if not timm.is_model(model_name):
        near = timm.list_models(f"*{model_name[:6]}*")[:5]
        raise InputError(f"timm has no model {model_name!r}; similar names: {near}")
