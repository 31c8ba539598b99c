"""D-FINE's weights from its repository and from the transformers library, and ImageNet weights of
its backbones, under our names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .rt_detr import DROPPED, REPOSITORY_RULES, from_official, from_transformers, renamed

MARK = "decoder.pre_bbox_head.layers.0.weight"  # the repository's
TRANSFORMERS_MARK = f"model.{MARK}"
BACKBONE_MARK = "stem.stem1.conv.weight"  # of HGNetv2 in timm, and in D-FINE's repository

_BACKBONE_RULES = (
    (r"^backbone\.stages\.(\d)\.", r"backbone.timm_model.stages_\1."),
    (r"^backbone\.stem\.", "backbone.timm_model.stem."),
)
_TRANSFORMERS_RULES = (
    (r"^(class_embed|bbox_embed)\.", r"model.decoder.\1."),  # stored twice, or not
    (r"^model\.backbone\.model\.embedder\.", "backbone.timm_model.stem."),
    (r"^model\.backbone\.model\.encoder\.stages\.(\d)\.", r"backbone.timm_model.stages_\1."),
    (r"^(backbone\..*)\.convolution\.", r"\1.conv."),
    (r"^(backbone\..*)\.normalization\.", r"\1.bn."),
    (r"\b(downsample_convs\.\d)\.conv1\.", r"\1.0."),
    (r"\b(downsample_convs\.\d)\.conv2\.", r"\1.1."),
    (r"^(model\.decoder\.layers\..*)\.final_layer_norm\.", r"\1.norms.1."),
    (r"\bpre_bbox_head\.", "initial_bbox_embed."),
    (r"\blqe_layers\.(\d+)\.reg_conf\.", r"quality_embed.\1.mlp."),
)
_RULES = (
    *_BACKBONE_RULES,
    (r"^encoder\.", "neck."),
    (r"^(neck\..*_blocks\.\d)\.cv([14])\.", lambda m: f"{m[1]}.conv{m[2]}."),
    (r"^(neck\..*_blocks\.\d)\.cv([23])\.0\.", lambda m: f"{m[1]}.csp_rep{int(m[2]) - 1}."),
    (r"^(neck\..*_blocks\.\d)\.cv([23])\.1\.", r"\1.conv\2."),
    (r"^(neck\.downsample_convs\.\d)\.0\.cv([12])\.", lambda m: f"{m[1]}.{int(m[2]) - 1}."),
    (r"^decoder\.pre_bbox_head\.", "transformer.decoder.initial_bbox_embed."),
    (r"\blqe_layers\.(\d+)\.reg_conf\.", r"quality_embed.\1.mlp."),
    (r"^(decoder\.decoder\..*)\bnorm3\.", r"\1norm2."),  # a gate has the second norm
    *REPOSITORY_RULES,
)


def from_repository(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of Peterande/D-FINE's, or of DEIM's on D-FINE; names without a rule
    still begin with ``encoder.`` or ``decoder.``"""
    return from_official(weights, _RULES)


def from_library(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of ``DFineForObjectDetection``; names without a rule still begin with
    ``model.``"""
    backbone, rest = {}, {}
    for name, value in weights.items():
        if not DROPPED.search(name):
            new = renamed(name, _TRANSFORMERS_RULES)
            (backbone if new.startswith("backbone.") else rest)[new] = value
    converted = backbone | from_transformers(rest)
    if (embedding := rest.get("model.denoising_class_embed.weight")) is not None:
        converted["label_enc.weight"] = embedding  # with the row for padding
    return converted


def from_imagenet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of timm's ``hgnetv2_b0`` to ``b6``, without the classifier."""
    return {
        renamed(f"backbone.{name}", _BACKBONE_RULES): value
        for name, value in weights.items()
        if name.startswith(("stem.", "stages.")) and not DROPPED.search(name)
    }
