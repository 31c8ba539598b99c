"""Files of LW-DETR's repository: a fake is made from our model by the inverse, written out here.
Those of RF-DETR and of the transformers library are in ``projects/test_lw_detr.py``."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from detrex.checkpoint.convert import convert, detect_layout
from tests.models import tiny

ABSENT = {0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # no COCO category has these ids
IDS = [i for i in range(91) if i not in ABSENT]
INVERSE = [
    (r"^backbone\.timm_model\.", "backbone.0.encoder."),
    (r"\bls(\d)\.gamma$", r"gamma_\1"),
    (r"^neck\.resamplers\.", "backbone.0.projector.stages_sampling."),
    (r"^neck\.c2f\.(\d)\.", r"backbone.0.projector.stages.\1.0."),
    (r"^neck\.norms\.(\d)\.", r"backbone.0.projector.stages.\1.1."),
    (r"(\d\.)blocks\.(\d)\.0\.", r"\1m.\2.cv1."),
    (r"(\d\.)blocks\.(\d)\.1\.", r"\1m.\2.cv2."),
    (r"(stages\.\d\.0\.)conv(\d)\.", r"\1cv\2."),
    (r"(projector\..*)\.norm\.", r"\1.bn."),
    (r"attentions\.0\.attn", "self_attn"),
    (r"attentions\.1", "cross_attn"),
    (r"ffns\.0\.layers\.0\.0", "linear1"),
    (r"ffns\.0\.layers\.1", "linear2"),
    *((rf"norms\.{i}", f"norm{i + 1}") for i in range(3)),
]


def official(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights as LW-DETR's repository has them, with a class row for each COCO id."""
    weights = model.state_dict()
    file = {}
    for name, value in weights.items():
        new = name
        if name.replace(".weight", ".norm.weight") in weights:
            new = name.replace(".weight", ".conv.weight")
        for pattern, replacement in INVERSE:
            new = re.sub(pattern, replacement, new)
        if re.search(r"class_embed\.(\d\.)?(weight|bias)$", name):
            rows = torch.randn(91, *value.shape[1:])
            rows[IDS] = value
            value = rows
        elif name.endswith("attn.qkv.bias"):
            queries, _, values = value.chunk(3)
            file[new.replace("qkv.bias", "q_bias")] = queries
            file[new.replace("qkv.bias", "v_bias")] = values
            continue
        elif name.endswith("pos_embed"):
            value = torch.cat([torch.randn(1, 1, value.shape[-1]), value], 1)
        file[new] = value
    return file


def test_a_file_of_the_repository_becomes_ours() -> None:
    model = tiny("projects/lw_detr/configs/lw_detr_large_60e_coco.py", num_classes=80, group_nums=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_()
            if name.endswith("attn.qkv.bias"):  # theirs have no bias of keys
                parameter.view(3, -1)[1] = 0.0
    file = official(model)
    for name in (
        "backbone.0.encoder.blocks.1.attn.q_bias",
        "backbone.0.projector.stages_sampling.0.1.0.bias",
        "backbone.0.projector.stages_sampling.1.0.0.bn.running_var",
        "backbone.0.projector.stages.1.0.m.2.cv1.conv.weight",
        "transformer.enc_out_class_embed.1.weight",
        "transformer.decoder.layers.0.self_attn.in_proj_weight",
        "refpoint_embed.weight",
    ):
        assert name in file
    assert detect_layout(file) == "lw_detr"
    converted = convert(file, "lw_detr")
    expected = {n: v for n, v in model.state_dict().items() if "num_batches" not in n}
    assert converted.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(converted[name], value), name
