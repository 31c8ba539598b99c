"""RT-DETR's weights from its repository, DEIM's, and the transformers library, and ResNet-vd's from
timm, under our names.

The transformers names are those of published files; models in memory have newer ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

MARK = "model.encoder_input_proj.0.0.weight"  # RT-DETR and v2 in transformers have it
REPOSITORY_MARK = "backbone.conv1.conv1_1.conv.weight"  # RT-DETR, v2, and DEIM on it
VD_MARK = "conv1.0.weight"  # the first of three convolutions in timm's stem

_Replacement = str | Callable[[re.Match], str]


def _next(prefix: str) -> Callable[[re.Match], str]:
    return lambda match: f"{prefix}{int(match[1]) + 1}."


_RULES: tuple[tuple[str, _Replacement], ...] = (
    (r"^model\.backbone\.model\.embedder\.embedder\.(\d)\.", _next("backbone.stem.conv")),
    (
        r"^model\.backbone\.model\.encoder\.stages\.(\d)\.layers\.",
        lambda match: f"backbone.res{int(match[1]) + 2}.",
    ),
    (r"\blayer\.(\d)\.", _next("conv")),
    (r"\bshortcut\.(1\.)?", "shortcut.1."),
    (r"\bconvolution\.", ""),
    (r"\bnormalization\.", "norm."),
    (r"^model\.encoder_input_proj\.", "neck.input_proj."),
    (r"^model\.decoder_input_proj\.", "neck.output_proj."),
    (r"(?<=put_proj\.\d\.)0\.", ""),
    (r"(?<=put_proj\.\d\.)1\.", "norm."),
    (r"^model\.encoder\.encoder\.0\.", "neck.aifi."),
    (r"^(neck\..*)final_layer_norm", r"\1norms.1"),
    (r"^model\.encoder\.", "neck."),
    (r"\bconv\.", ""),
    (r"^model\.decoder\.((class|bbox)_embed)", r"\1"),
    (r"^model\.enc_(score|bbox)_head\.", lambda m: f"{_HEADS[m[1]]}.{{layers}}."),
    (r"^model\.enc_output\.0\.", "transformer.enc_output."),
    (r"^model\.enc_output\.1\.", "transformer.enc_output_norm."),
    (r"^model\.denoising_class_embed\.", "label_enc."),
    (r"^model\.decoder\.query_pos_head\.", "transformer.decoder.ref_point_head."),
    (r"^model\.decoder\.", "transformer.decoder."),
    (r"\bself_attn_layer_norm", "norms.0"),
    (r"\bencoder_attn_layer_norm", "norms.1"),
    (r"\bfinal_layer_norm", "norms.2"),
    (r"\bself_attn\.", "attentions.0.attn."),
    (r"\bencoder_attn\.", "attentions.1."),
    (r"\bfc1\.", "ffns.0.layers.0.0."),
    (r"\bfc2\.", "ffns.0.layers.1."),
)
_HEADS = {"score": "class_embed", "bbox": "bbox_embed"}
_STEM = {"0": "1.", "1": "1.norm.", "3": "2.", "4": "2.norm.", "6": "3."}
_VD_RULES: tuple[tuple[str, _Replacement], ...] = (
    (r"^conv1\.(\d)\.", lambda match: f"backbone.stem.conv{_STEM[match[1]]}"),
    (r"^bn1\.", "backbone.stem.conv3.norm."),
    (r"^layer(\d)\.", _next("backbone.res")),
    (r"\bbn(\d)\.", r"conv\1.norm."),
    (r"\bdownsample\.1\.", "shortcut.1."),
    (r"\bdownsample\.2\.", "shortcut.1.norm."),
)


DROPPED = re.compile(
    r"num_batches_tracked$|num_points_scale$|\b(up|reg_scale)$|^decoder\.(anchors|valid_mask)$"
)
# What the repositories of RT-DETR and D-FINE name alike.
REPOSITORY_RULES: tuple[tuple[str, _Replacement], ...] = (
    (
        r"^(?:encoder|neck)\.encoder\.0\.(.*)norm([12])\.",
        lambda m: f"neck.aifi.{m[1]}norms.{int(m[2]) - 1}.",
    ),
    (r"^(?:encoder|neck)\.encoder\.0\.", "neck.aifi."),
    (r"^encoder\.", "neck."),
    (r"^decoder\.input_proj\.", "neck.output_proj."),
    (r"^((?:backbone\.res|backbone\.stem|neck).*)\bconv\.", r"\1"),
    (r"^decoder\.decoder\.", "transformer.decoder."),
    (r"^decoder\.query_pos_head\.", "transformer.decoder.ref_point_head."),
    (r"^decoder\.enc_output\.(proj|0)\.", "transformer.enc_output."),
    (r"^decoder\.enc_output\.(norm|1)\.", "transformer.enc_output_norm."),
    (r"^decoder\.denoising_class_embed\.", "label_enc."),
    (r"^decoder\.dec_score_head\.", "class_embed."),
    (r"^decoder\.dec_bbox_head\.", "bbox_embed."),
    (r"^decoder\.enc_score_head\.", "class_embed.{layers}."),
    (r"^decoder\.enc_bbox_head\.", "bbox_embed.{layers}."),
    (r"^(transformer\..*)\bnorm([123])\.", lambda m: f"{m[1]}norms.{int(m[2]) - 1}."),
    (r"\bself_attn\.", "attentions.0.attn."),
    (r"\bcross_attn\.", "attentions.1."),
    (r"\blinear1\.", "ffns.0.layers.0.0."),
    (r"\blinear2\.", "ffns.0.layers.1."),
)
_RT_DETR_RULES: tuple[tuple[str, _Replacement], ...] = (
    (r"^backbone\.conv1\.conv1_(\d)\.", r"backbone.stem.conv\1."),
    (r"^backbone\.res_layers\.(\d)\.blocks\.", lambda m: f"backbone.res{int(m[1]) + 2}."),
    (r"\bbranch2([abc])\.", lambda m: f"conv{'abc'.index(m[1]) + 1}."),
    (r"\bshort\.(conv\.(?=conv\.|norm\.))?", "shortcut.1."),
    (r"(?<=put_proj\.\d\.)0\.", ""),  # of the first version
    (r"(?<=put_proj\.\d\.)1\.", "norm."),
    *REPOSITORY_RULES,
)


def from_repository(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of lyuwenyu/RT-DETR's, v1 or v2, or of DEIM's on v2.

    The denoising embedding loses its last row, which is for padding. Names without a rule still
    begin with ``encoder.`` or ``decoder.``
    """
    return _without_padding_label(from_official(weights, _RT_DETR_RULES))


def from_official(
    weights: Mapping[str, Tensor], rules: Iterable[tuple[str, _Replacement]]
) -> dict[str, Tensor]:
    """Rename a state dict whose heads are in ``decoder.``; constants are left out."""
    numbers = [re.match(r"decoder\.dec_score_head\.(\d+)\.", name) for name in weights]
    layers = 1 + max((int(number[1]) for number in numbers if number), default=-1)
    return {
        renamed(name, rules).replace("{layers}", str(layers)): value
        for name, value in weights.items()
        if not DROPPED.search(name)
    }


def _without_padding_label(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    if "label_enc.weight" in weights:  # only models with denoising have it
        weights["label_enc.weight"] = weights["label_enc.weight"][:-1]
    return weights


def from_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of ``RTDetrForObjectDetection`` or ``RTDetrV2ForObjectDetection``.

    Projections of queries, keys and values become one. The denoising embedding loses its last row,
    which is for padding. Counters of batch norms and constants of v2 are left out. Names without a
    rule still begin with ``model.``
    """
    numbers = [re.match(r"model\.decoder\.layers\.(\d+)\.", name) for name in weights]
    layers = 1 + max((int(number[1]) for number in numbers if number), default=-1)
    converted = {
        renamed(name, _RULES).replace("{layers}", str(layers)): value
        for name, value in weights.items()
        if not name.endswith(("num_batches_tracked", "n_points_scale"))
    }
    converted = _without_padding_label(converted)
    for name in [name for name in converted if ".q_proj." in name]:
        qkv = [converted.pop(name.replace(".q_proj.", f".{letter}_proj.")) for letter in "qkv"]
        converted[name.replace(".q_proj.", ".in_proj_")] = torch.cat(qkv)
    return converted


def from_timm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of timm's ``resnet18d`` to ``resnet101d``, without the classifier.

    The first projection, which timm's smaller two lack, becomes the identity.
    """
    converted = {
        renamed(name, _VD_RULES): value
        for name, value in weights.items()
        if not name.endswith("num_batches_tracked") and not name.startswith("fc.")
    }
    if "layer1.0.downsample.1.weight" not in weights:
        first = "backbone.res2.0.shortcut.1"
        converted[f"{first}.weight"] = torch.eye(64)[..., None, None]
        converted |= {f"{first}.norm.{key}": torch.zeros(64) for key in ("bias", "running_mean")}
        converted[f"{first}.norm.weight"] = torch.ones(64)
        converted[f"{first}.norm.running_var"] = torch.ones(64) - 1e-5  # the norm adds that
    return converted


def renamed(name: str, rules: Iterable[tuple[str, _Replacement]]) -> str:
    """Return a name after every (regular expression, replacement), in turn."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
