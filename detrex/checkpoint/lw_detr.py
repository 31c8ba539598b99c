"""Weights of LW-DETR and RF-DETR, of their repositories and of the transformers library, under our
names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .rt_detr import renamed

MARK = "query_feat.weight"  # of the repositories
TRANSFORMERS_MARK = f"model.{MARK}"

_DROPPED = re.compile(r"num_batches_tracked$|\b(mask_token|register_tokens)$")
_LIBRARY_RULES = (  # to the names of the repositories
    (r"^model\.", ""),
    (r"^backbone\.backbone\.", "backbone.0.encoder."),
    (r"^backbone\.projector\.scale_layers\.", "backbone.0.projector."),
    (r"^backbone\.projector\.", "backbone.0.projector.0."),
    (r"\bprojector\.(\d)\.sampling_layers\.(\d)\.layers\.", r"projector.stages_sampling.\1.\2."),
    (r"\bprojector\.(\d)\.projector_layer\.", r"projector.stages.\1.0."),
    (r"\bprojector\.(\d)\.layer_norm\.", r"projector.stages.\1.1."),
    (r"(\bprojector\..*)\bbottlenecks\.(\d)\.conv", r"\1m.\2.cv"),
    (r"(\bprojector\..*)\bconv(\d)\.", r"\1cv\2."),
    (r"(\bprojector\..*)\bnorm\.", r"\1bn."),
    (r"^reference_point_embed\.", "refpoint_embed."),
    (r"^(decoder|enc_)", r"transformer.\1"),
    (r"\blayernorm\.(?=weight|bias)", "norm."),
    (r"\bself_attn_layer_norm\.", "norm1."),
    (r"\bcross_attn_layer_norm\.", "norm2."),
    (r"(decoder\..*)\blayer_norm\.", r"\1norm3."),
    (r"(decoder\..*)\bmlp\.fc(\d)\.", r"\1linear\2."),
    (r"\bself_attn\.o_proj\.", "self_attn.out_proj."),
)
_RULES = (
    # DINOv2's names in the transformers library, and those of its ViT for LW-DETR
    (r"^backbone\.0\.encoder\.(encoder\.)?embeddings\.", "backbone.timm_model."),
    (r"^backbone\.0\.encoder\.(encoder\.)?encoder\.layer\.", "backbone.timm_model.blocks."),
    (r"^backbone\.0\.encoder\.encoder\.layernorm\.", "backbone.timm_model.norm."),
    (r"^backbone\.0\.encoder\.", "backbone.timm_model."),
    (r"\bposition_embeddings$", "pos_embed"),
    (r"\b(patch_embeddings\.)?projection\.", "patch_embed.proj."),
    (r"\battention\.(attention\.)?(query|key|value)\.", lambda m: f"attn.{m[2][0]}_proj."),
    (r"\battention\.([qkv]_proj)\.", r"attn.\1."),
    (r"\battention\.(output\.(dense\.)?|o_proj\.)", "attn.proj."),
    (r"\bintermediate\.fc", "mlp.fc"),
    (r"\blayernorm_before\.", "norm1."),
    (r"\blayernorm_after\.", "norm2."),
    (r"\b(gamma_|layer_scale)(\d)(\.lambda1)?$", r"ls\2.gamma"),
    (r"^backbone\.0\.projector\.stages_sampling\.", "neck.resamplers."),
    (r"^backbone\.0\.projector\.stages\.(\d)\.0\.", r"neck.c2f.\1."),
    (r"^backbone\.0\.projector\.stages\.(\d)\.1\.", r"neck.norms.\1."),
    (r"^(neck\..*)\bm\.(\d)\.cv([12])\.", lambda m: f"{m[1]}blocks.{m[2]}.{int(m[3]) - 1}."),
    (r"^(neck\..*)\bcv([12])\.", r"\1conv\2."),
    (r"^(neck\..*)\bconv\.", r"\1"),
    (r"^(neck\..*)\bbn\.", r"\1norm."),
    (r"^(transformer\..*)\bnorm([123])\.", lambda m: f"{m[1]}norms.{int(m[2]) - 1}."),
    (r"\bself_attn\.", "attentions.0.attn."),
    (r"\bcross_attn\.", "attentions.1."),
    (r"\blinear1\.", "ffns.0.layers.0.0."),
    (r"\blinear2\.", "ffns.0.layers.1."),
)


def from_repository(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of Atten4Vis/LW-DETR's or of roboflow/rf-detr's.

    Projections of queries, keys and values become one; keys without a bias get one of zeros, which
    a softmax does not see. Position embeddings lose that of a class token that is not there.
    """
    converted = {
        renamed(name, _RULES): value for name, value in weights.items() if not _DROPPED.search(name)
    }
    for name in [name for name in converted if re.search(r"\bq_(proj\.\w+|bias)$", name)]:
        names = [name.replace(".q_", f".{letter}_") for letter in "qkv"]
        q, k, v = (converted.pop(n, None) for n in names)
        k = torch.zeros_like(q) if k is None else k
        inside = "in_proj_" if ".self_attn." in name or ".attentions." in name else "qkv."
        kind = "weight" if name.endswith("weight") else "bias"
        converted[re.sub(r"\bq_(proj\.\w+|bias)$", f"{inside}{kind}", name)] = torch.cat([q, k, v])
    positions = "backbone.timm_model.pos_embed"
    if positions in converted and "backbone.timm_model.cls_token" not in converted:
        converted[positions] = converted[positions][:, 1:]
    return converted


def from_library(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of ``LwDetrForObjectDetection`` or ``RfDetrForObjectDetection``; names
    without a rule still begin with ``encoder.`` or ``model.``"""
    return from_repository({renamed(name, _LIBRARY_RULES): w for name, w in weights.items()})
