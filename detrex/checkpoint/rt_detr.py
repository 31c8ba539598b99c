"""RT-DETR's weights from the transformers library, and ImageNet ResNet-vd's from timm, under our
names.

The transformers layout is that of published files; models in memory have newer names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

MARK = "model.encoder_input_proj.0.0.weight"  # RT-DETR and v2 in transformers have it
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


def from_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of ``RTDetrForObjectDetection`` or ``RTDetrV2ForObjectDetection``; names that
    have no rule still begin with ``model.``

    Projections of queries, keys and values become one. The denoising embedding loses its last row,
    which stands for padding. Counters of batch norms and constants of v2 are left out.
    """
    numbers = [re.match(r"model\.decoder\.layers\.(\d+)\.", name) for name in weights]
    layers = 1 + max((int(number[1]) for number in numbers if number), default=-1)
    found = {}
    for name, value in weights.items():
        if name.endswith(("num_batches_tracked", "n_points_scale")):
            continue
        found[renamed(name, _RULES).replace("{layers}", str(layers))] = value
    if "label_enc.weight" in found:  # models that were made without denoising have none
        found["label_enc.weight"] = found["label_enc.weight"][:-1]
    for name in [name for name in found if ".q_proj." in name]:
        parts = [found.pop(name.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
        found[name.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
    return found


def from_timm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of timm's ``resnet18d`` to ``resnet101d`` without its classifier.

    The first projection, which timm's smaller two lack, becomes the identity.
    """
    kept = {n: w for n, w in weights.items() if not n.endswith("num_batches_tracked")}
    found = {renamed(n, _VD_RULES): w for n, w in kept.items() if not n.startswith("fc.")}
    if "layer1.0.downsample.1.weight" not in weights:
        first = "backbone.res2.0.shortcut.1"
        found[f"{first}.weight"] = torch.eye(64)[..., None, None]
        found |= {f"{first}.norm.{part}": torch.zeros(64) for part in ("bias", "running_mean")}
        found[f"{first}.norm.weight"] = torch.ones(64)
        found[f"{first}.norm.running_var"] = torch.ones(64) - 1e-5  # the norm adds that
    return found


def renamed(name: str, rules: Iterable[tuple[str, _Replacement]]) -> str:
    """A name after every (regular expression, replacement) in turn."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
