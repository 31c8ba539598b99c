"""Official checkpoints: fakes are made from our models by the inverse, written out here."""

from __future__ import annotations

import argparse
import re
import runpy
import subprocess

import pytest
import torch
import torchvision
from safetensors import safe_open

from detrex.checkpoint import compare, load_weights, read_checkpoint
from detrex.checkpoint.convert import convert, detect_layout
from detrex.modeling.backbone import TorchvisionResNet
from tests.models import ROOT, tiny

ABSENT = {0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # no COCO category has these ids
IDS = [i for i in range(91) if i not in ABSENT]

BACKBONE = [
    (r"^backbone\.(\w)", r"backbone.0.body.\1"),
    (r"body\.stem\.conv1\.norm", "body.bn1"),
    (r"body\.stem\.", "body."),
    (r"body\.res2", "body.layer1"),
    (r"body\.res3", "body.layer2"),
    (r"body\.res4", "body.layer3"),
    (r"body\.res5", "body.layer4"),
    (r"conv(\d)\.norm", r"bn\1"),
    (r"shortcut\.norm", "downsample.1"),
    (r"shortcut", "downsample.0"),
]
LAYERS = [
    (r"encoder\.layers\.(\d)\.norms\.0", r"encoder.layers.\1.norm1"),
    (r"encoder\.layers\.(\d)\.norms\.1", r"encoder.layers.\1.norm2"),
    (r"ffns\.0\.layers\.0\.0", "linear1"),
    (r"ffns\.0\.layers\.1", "linear2"),
    (r"ffns\.0\.(layers\.0\.1|activation)", "activation"),
]
IN_ORDER = [(rf"norms\.{i}", f"norm{i + 1}") for i in range(3)]
DENSE = [
    (r"encoder\.layers\.(\d)\.attentions\.0\.attn", r"encoder.layers.\1.self_attn"),
    ("post_norm_layer", "norm"),
]
DETR = [(r"attentions\.0\.attn", "self_attn"), (r"attentions\.1\.attn", "multihead_attn")]
CONDITIONAL = [
    (r"attentions\.0\.out_proj", "self_attn.out_proj"),
    (r"attentions\.1\.out_proj", "cross_attn.out_proj"),
    (r"attentions\.0\.query_(content|pos)_proj", r"sa_q\1_proj"),
    (r"attentions\.0\.key_(content|pos)_proj", r"sa_k\1_proj"),
    (r"attentions\.0\.value", "sa_v"),
    (r"attentions\.1\.query_(content|pos|pos_sine)_proj", r"ca_q\1_proj"),
    (r"attentions\.1\.key_(content|pos)_proj", r"ca_k\1_proj"),
    (r"attentions\.1\.value", "ca_v"),
    ("anchor_box_embed", "refpoint_embed"),
]
DEFORMABLE = [
    (r"encoder\.layers\.(\d)\.attentions\.0", r"encoder.layers.\1.self_attn"),
    (r"decoder\.layers\.(\d)\.attentions\.0\.attn", r"decoder.layers.\1.self_attn"),
    (r"attentions\.1", "cross_attn"),
    (r"norms\.0", "norm2"),
    (r"norms\.1", "norm1"),
    (r"norms\.2", "norm3"),
    (r"neck\.convs\.(\d)\.conv", r"input_proj.\1.0"),
    (r"neck\.convs\.(\d)\.norm", r"input_proj.\1.1"),
    (r"neck\.extra_convs\.0\.conv", "input_proj.3.0"),
    (r"neck\.extra_convs\.0\.norm", "input_proj.3.1"),
    ("level_embeds", "level_embed"),
    ("query_embedding", "query_embed"),
]
DENOISING = [(r"denoising_generator\.label_encoder", "label_enc")]
DINO = [  # two decoder layers: the third head is the encoder's
    (r"^(transformer\.decoder\.)?(class|bbox)_embed\.2", r"transformer.enc_out_\2_embed"),
]
RELATION = [
    (r"^backbone\.0\.body\.", "backbone."),
    (r"^(transformer\.decoder\.)?(class|bbox)_embed\.2", r"transformer.encoder_\2_head"),
    (r"^(transformer\.decoder\.)?(class|bbox)_embed", r"transformer.decoder.\2_head"),
    (r"neck\.convs\.(\d)\.conv", r"neck.convs.\1.0"),
    (r"neck\.convs\.(\d)\.norm", r"neck.convs.\1.1"),
    (r"neck\.extra_convs\.0\.conv", "neck.convs.3.0"),
    (r"neck\.extra_convs\.0\.norm", "neck.convs.3.1"),
    ("^hybrid_", "transformer.hybrid_"),
    ("^label_enc", "denoising_generator.label_encoder"),
]
CASES = {  # our config, the inverse; some of their names with where they come from
    "detr": (
        "detr/configs/detr_r50_300ep.py",
        LAYERS + DENSE + DETR + IN_ORDER,
        {
            "backbone.0.body.layer2.0.downsample.0.weight": "backbone.res3.0.shortcut.weight",
            "transformer.decoder.layers.1.multihead_attn.in_proj_weight": (
                "transformer.decoder.layers.1.attentions.1.attn.in_proj_weight"
            ),
            "query_embed.weight": "query_embed.weight",
        },
    ),
    "conditional_detr": (
        "conditional_detr/configs/conditional_detr_r50_50ep.py",
        LAYERS + DENSE + CONDITIONAL + IN_ORDER,
        {"transformer.decoder.norm.bias": "transformer.decoder.post_norm_layer.bias"},
    ),
    "dab_detr": (
        "dab_detr/configs/dab_detr_r50_3patterns_50ep.py",
        LAYERS + DENSE + CONDITIONAL + IN_ORDER,
        {
            "transformer.decoder.layers.0.ca_qpos_sine_proj.weight": (
                "transformer.decoder.layers.0.attentions.1.query_pos_sine_proj.weight"
            ),
            "transformer.encoder.layers.0.activation.weight": (
                "transformer.encoder.layers.0.ffns.0.activation.weight"
            ),
            "transformer.patterns.weight": "transformer.patterns.weight",
        },
    ),
    "dn_detr": (
        "dn_detr/configs/dn_detr_r50_50ep.py",
        LAYERS + DENSE + CONDITIONAL + IN_ORDER + DENOISING,
        {"refpoint_embed.weight": "anchor_box_embed.weight"},
    ),
    "deformable_detr": (
        "deformable_detr/configs/deformable_detr_r50_50ep.py",
        LAYERS + DEFORMABLE,
        {
            "transformer.reference_points.weight": "transformer.reference_points.weight",
            "query_embed.weight": "query_embedding.weight",
        },
    ),
    "dab_deformable_detr": (
        "dab_deformable_detr/configs/dab_deformable_detr_r50_50ep.py",
        LAYERS + DEFORMABLE,
        {"tgt_embed.weight": "tgt_embed.weight"},
    ),
    "dn_deformable_detr": (
        "dn_deformable_detr/configs/dn_deformable_detr_r50_50ep.py",
        LAYERS + DEFORMABLE + DENOISING,
        {"input_proj.3.0.weight": "neck.extra_convs.0.conv.weight"},
    ),
    "h_deformable_detr": (
        "h_deformable_detr/configs/h_deformable_detr_r50_two_stage_12ep.py",
        LAYERS + DEFORMABLE,
        {
            "transformer.level_embed": "transformer.level_embeds",
            "transformer.decoder.layers.1.norm1.weight": (
                "transformer.decoder.layers.1.norms.1.weight"
            ),
            "transformer.decoder.layers.1.norm2.weight": (
                "transformer.decoder.layers.1.norms.0.weight"
            ),
        },
    ),
    "dac_detr": (
        "dac_detr/configs/dac_detr_r50_12ep.py",
        LAYERS + DEFORMABLE,
        {"query_embed.weight": "query_embedding.weight"},
    ),
    "relation_detr": (
        "relation_detr/configs/relation_detr_r50_12ep.py",
        RELATION + LAYERS + DEFORMABLE[:6],
        {
            "backbone.layer2.0.downsample.0.weight": "backbone.res3.0.shortcut.weight",
            "neck.convs.3.0.weight": "neck.extra_convs.0.conv.weight",
            "transformer.decoder.bbox_head.1.layers.0.bias": "bbox_embed.1.layers.0.bias",
            "transformer.encoder_bbox_head.layers.2.bias": "bbox_embed.2.layers.2.bias",
            "transformer.hybrid_tgt_embed.weight": "hybrid_tgt_embed.weight",
            "transformer.decoder.position_relation_embedding.pos_proj.0.weight": (
                "transformer.decoder.position_relation_embedding.pos_proj.0.weight"
            ),
        },
    ),
    "dino": (
        "dino/configs/dino-resnet/dino_r50_4scale_12ep.py",
        LAYERS + DINO + DEFORMABLE,
        {
            "transformer.tgt_embed.weight": "transformer.tgt_embed.weight",
            "transformer.enc_out_bbox_embed.layers.2.bias": "bbox_embed.2.layers.2.bias",
        },
    ),
}


def rows(name: str, layout: str) -> list[int] | None:
    """Which of the official rows a tensor of ours has."""
    if name == "label_enc.weight" and layout == "dac_detr":
        return [*IDS, 91]
    if name == "label_enc.weight" or "hybrid_class_head" in name:  # DINO, Relation-DETR
        return IDS
    if "label_encoder" in name:
        return [*IDS, 91]
    if "class_embed" not in name:
        return None
    if layout in ("h_deformable_detr", "dac_detr") and ".2." in name:
        return [0, *IDS[1:]]  # class-agnostic proposals were learned as class 0
    return [*IDS, 91] if layout == "detr" else IDS


def official(layout: str) -> tuple[torch.nn.Module, dict, dict]:
    """A model of ours, random weights for it, and the same under the official names."""
    config, inverse, _ = CASES[layout]
    options = {"num_classes": 80, "criterion__num_classes": 80}
    model = tiny(f"projects/{config}", **options)
    torch.manual_seed(1)
    ours, published = {}, {}
    for name, value in model.state_dict().items():
        if name.startswith("criterion."):
            continue
        old = name
        for pattern, replacement in (*BACKBONE, *inverse):
            old = re.sub(pattern, replacement, old)
        chosen = rows(name, layout)
        size = value.shape if chosen is None else (91 + (91 in chosen), *value.shape[1:])
        if name == "label_enc.weight" and layout == "dino":
            size = (92, *value.shape[1:])
        published.setdefault(old, torch.randn(size))  # a module under two names of ours has one
        ours[name] = published[old] if chosen is None else published[old][chosen]
    return model, ours, published


@pytest.mark.parametrize("layout", CASES)
def test_official_names_become_ours_with_nothing_left_over(layout: str) -> None:
    model, expected, published = official(layout)
    detected = "deformable_detr" if layout == "h_deformable_detr" else layout
    saved = {f"module.{name}": value for name, value in published.items()}
    assert detect_layout(saved) == detected
    converted = convert(saved, layout)
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], expected[name]) for name in expected)
    assert compare(model, converted)
    for old, new in CASES[layout][2].items():
        assert torch.equal(converted[new], published[old])


def test_dilated_resnets_keep_torchvisions_names() -> None:
    model = TorchvisionResNet("resnet18", True)
    state = {f"backbone.0.{name}": value for name, value in model.state_dict().items()}
    converted = convert(state, "detr", torchvision_backbone=True)
    assert converted.keys() == {f"backbone.{name}" for name in model.state_dict()}


def test_a_resnet_of_torchvision() -> None:
    weights = torchvision.models.resnet18(weights=None).state_dict()
    assert detect_layout(weights) == "torchvision"
    converted = convert(weights, "torchvision")
    assert len(converted) == 100  # 20 convolutions, each with a norm of four tensors
    assert converted["backbone.res3.0.shortcut.norm.bias"] is weights["layer2.0.downsample.1.bias"]
    assert converted["backbone.stem.conv1.weight"] is weights["conv1.weight"]


def test_swin_of_dino_has_no_body() -> None:
    converted = convert({"backbone.0.layers.1.blocks.0.attn.qkv.weight": torch.ones(1)}, "dino")
    assert list(converted) == ["backbone.layers.1.blocks.0.attn.qkv.weight"]


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the tool in this process."""

    def run(*arguments: object) -> subprocess.CompletedProcess:
        monkeypatch.setattr("sys.argv", ["convert_checkpoint.py", *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(ROOT / "tools/convert_checkpoint.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


def test_command(tmp_path, command) -> None:
    model, _, published = official("dino")
    source, target = tmp_path / "checkpoint.pth", tmp_path / "ours.pth"
    torch.save({"model": published, "epoch": 11, "args": argparse.Namespace(lr=1e-4)}, source)
    done = command(source, target)
    assert done.returncode == 0, done.stderr
    assert "dino: " in done.stdout and "temperature=20" in done.stdout
    report, _ = load_weights(model, str(target), strict=True)
    assert report
    safe = tmp_path / "ours.safetensors"
    assert command(source, safe).returncode == 0
    written = read_checkpoint(target)["model"]
    with safe_open(safe, "pt") as file:
        assert set(file.keys()) == written.keys()
        assert all(file.get_tensor(name).equal(value) for name, value in written.items())
    config = "projects/detr/configs/detr_r50_300ep.py"
    refused = command(source, tmp_path / "no.pth", "--config-file", config)
    assert refused.returncode == 2 and not (tmp_path / "no.pth").exists()
    assert refused.stderr.count("\n") == 1 and "does not fit" in refused.stderr


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("given.pth", ["given.pth"]),
        ("link.pth", ["link.pth"]),
        ("given.pth/x.pth", ["given.pth is not a folder"]),
        ("ours.onnx", ["ours.onnx", ".pth", ".safetensors"]),
        ("ours.pth model.x=1", ["model.x=1", "--config-file"]),
    ],
)
def test_unusable_targets_are_named_before_the_work(tmp_path, command, target, names) -> None:
    source = tmp_path / "given.pth"
    source.write_text("not even a checkpoint")
    (tmp_path / "link.pth").symlink_to(source)
    refused = command(source, *f"{tmp_path}/{target}".split())
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert all(name in refused.stderr for name in names)
    assert source.read_text() == "not even a checkpoint" and len([*tmp_path.iterdir()]) == 2
