"""DEIM's configs against the released values (``deim_r50_60e_config.json``), and its model."""

from __future__ import annotations

import json
import re

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import instantiate
from torch import nn

from detrex.checkpoint import compare
from detrex.checkpoint.convert import convert, detect_layout
from detrex.config import config_yaml
from detrex.config.lengths import resolve_schedule
from detrex.layers import MLP
from detrex.train import default_argument_parser, load_config
from detrex.train.run import run
from tests.models import ROOT, image, tiny
from tests.train.tiny import write_data

CONFIGS = ROOT / "projects/deim/configs"
GOLDEN = json.loads((ROOT / "tests/parity/deim_r50_60e_config.json").read_text())
EPOCH = 100  # iterations


def resolved(name: str):
    cfg = load_config(str(CONFIGS / f"{name}.py"))
    resolve_schedule(cfg, EPOCH)
    return cfg


def build(name: str) -> nn.Module:
    with torch.device("meta"):
        return instantiate(resolved(name).model)


def ops() -> dict[str, dict]:
    transforms = GOLDEN["train_dataloader"]["dataset"]["transforms"]
    return {op["type"]: op for op in transforms["ops"]}


def test_data_and_schedule_are_the_published_ones() -> None:
    cfg, data = resolved("deim_r50vd_60e_coco"), GOLDEN["train_dataloader"]
    policy = data["dataset"]["transforms"]["policy"]["epoch"]
    first, second = cfg.dataloader.train.mapper.windows
    assert [first.start, first.stop, second.start, second.stop] == [
        EPOCH * epoch for epoch in (policy[0], policy[1], policy[1], policy[2])
    ]
    assert data["collate_fn"]["mixup_epochs"] == policy[:2] and len(first.pairs) == 1
    assert first.pairs[0].p == data["collate_fn"]["mixup_prob"] and not second.get("pairs")
    choice = first.transforms[0]
    assert list(choice.p) == [data["dataset"]["transforms"]["mosaic_prob"]] * 2
    (mosaic, affine, distort), single = (branch.transforms for branch in choice.transforms)
    golden = ops()
    assert mosaic["size"] == golden["Mosaic"]["output_size"]
    assert affine.degrees == golden["Mosaic"]["rotation_range"]
    assert list(affine.translate) == golden["Mosaic"]["translation_range"]
    assert list(affine.scale) == golden["Mosaic"]["scaling_range"]
    assert affine.fill == golden["Mosaic"]["fill_value"]
    assert distort == single[0] and single == second.transforms
    assert single[0].p == golden["RandomPhotometricDistort"]["p"]
    assert single[1].fill == golden["RandomZoomOut"]["fill"]
    assert single[2].p == golden["RandomIoUCrop"]["p"]
    sanitize, _, resize, again = cfg.dataloader.train.mapper.transforms
    assert list(resize["size"]) == golden["Resize"]["size"] == GOLDEN["eval_spatial_size"]
    assert sanitize.min_size == again.min_size == golden["SanitizeBoundingBoxes"]["min_size"]
    assert list(cfg.dataloader.test.mapper.augmentation[0].shape) == GOLDEN["eval_spatial_size"]
    assert cfg.dataloader.train.total_batch_size == data["total_batch_size"]

    sizes, collate = list(cfg.model.train_sizes), data["collate_fn"]
    assert sizes.count(collate["base_size"]) == collate["base_size_repeat"]
    assert cfg.model.train_sizes_until == EPOCH * collate["stop_epoch"]

    schedule, train = cfg.lr_multiplier, cfg.train
    assert train.max_iter == schedule.max_iter == EPOCH * GOLDEN["epoches"]
    assert schedule.warmup == GOLDEN["warmup_iter"]
    assert schedule.flat == EPOCH * GOLDEN["flat_epoch"]
    assert schedule.final == EPOCH * GOLDEN["no_aug_epoch"]
    assert schedule.lowest == GOLDEN["lr_gamma"]
    assert train.clip_grad.enabled and train.clip_grad.params.max_norm == GOLDEN["clip_max_norm"]
    assert train.amp.enabled == GOLDEN["use_amp"]
    assert train.reload_best == EPOCH * collate["stop_epoch"]
    ema = GOLDEN["ema"]
    assert train.model_ema.enabled == GOLDEN["use_ema"]
    assert (train.model_ema.decay, train.model_ema.warmup) == (ema["decay"], ema["warmups"])


def test_model_and_loss_are_the_published_ones() -> None:
    cfg, decoder = resolved("deim_r50vd_60e_coco").model, GOLDEN["RTDETRTransformerv2"]
    assert cfg.num_queries == decoder["num_queries"] and cfg.dn_number == decoder["num_denoising"]
    assert cfg.label_noise_ratio == decoder["label_noise_ratio"]
    assert cfg.box_noise_scale == decoder["box_noise_scale"]
    assert cfg.transformer.decoder.num_layers == decoder["num_layers"]
    assert cfg.embed_dim == decoder["hidden_dim"]
    assert cfg.backbone.stages.depth == GOLDEN["PResNet"]["depth"]
    assert cfg.backbone.freeze_at == 0 and cfg.backbone.stages.norm == "SyncBN"
    criterion, weights = GOLDEN["DEIMCriterion"], cfg.criterion.weight_dict
    assert cfg.criterion.loss_class_type == "mal_loss" and "mal" in criterion["losses"]
    assert cfg.criterion.gamma == criterion["gamma"]
    names = {"loss_class": "loss_mal", "loss_bbox": "loss_bbox", "loss_giou": "loss_giou"}
    assert {name: weights[name] for name in names} == {
        name: criterion["weight_dict"][upstream] for name, upstream in names.items()
    }
    matcher = criterion["matcher"]
    for name, weight in matcher["weight_dict"].items():
        assert cfg.criterion.matcher[name] == weight
    assert cfg.criterion.matcher.alpha == matcher["alpha"]
    assert cfg.criterion.matcher.gamma == matcher["gamma"]


@pytest.mark.parametrize(
    ("name", "backbone_lr"),
    [
        ("deim_r50vd_60e_coco", GOLDEN["optimizer"]["params"][0]["lr"]),
        ("deim_r101vd_60e_coco", 2e-6),
        ("deim_r34vd_120e_coco", 1e-4),
        ("deim_r18vd_120e_coco", 2e-4),
    ],
)
def test_rates_and_decay_follow_the_published_rules(name: str, backbone_lr: float) -> None:
    cfg, golden = resolved(name), GOLDEN["optimizer"]
    backbone, norm = (re.compile(rule["params"]) for rule in golden["params"])
    model = build(name)
    cfg.optimizer.params.model = model
    groups = instantiate(cfg.optimizer).param_groups
    actual = {p: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    seen = set()
    for key, parameter in model.named_parameters():
        expected = [golden["lr"], golden["weight_decay"]]
        if backbone.match(key):
            expected[0] = backbone_lr
        elif norm.match(key):
            expected[1] = golden["params"][1]["weight_decay"]
        assert actual[parameter] == pytest.approx(expected), key
        seen.add(tuple(expected))
    assert len(seen) == (2 if backbone_lr == golden["lr"] else 3)
    assert [*cfg.optimizer.betas] == golden["betas"]


def test_longer_recipes_and_the_late_cost() -> None:
    cfg = resolved("deim_r18vd_120e_coco")
    first, second = cfg.dataloader.train.mapper.windows
    epochs = [first.start, first.stop, second.start, second.stop, cfg.model.train_sizes_until]
    assert epochs == [400, 6400, 6400, 11700, 11700]
    schedule = cfg.lr_multiplier
    assert (schedule.max_iter, schedule.flat, schedule.final) == (12000, 6400, 300)
    assert resolved("deim_r50vd_m_60e_coco").model.transformer.decoder.num_layers == 3
    switch = resolved("deim_r50vd_60e_high_order_coco").model.criterion.matcher
    assert switch.matcher_change_iter == 0.9 * 58 * EPOCH and switch.iou_order_alpha == 4.0


def test_silu_in_decoder_and_heads_alone() -> None:
    model = tiny("projects/deim/configs/deim_r50vd_60e_coco.py")
    mlps = [m for m in model.modules() if isinstance(m, MLP)]
    assert len(mlps) == 4 and all(mlp.activation is F.silu for mlp in mlps)
    assert len(model.transformer.decoder.ref_point_head.layers) == 3
    decoder = [type(m) for m in model.transformer.modules()]
    assert nn.SiLU in decoder and nn.ReLU not in decoder
    assert nn.GELU in [type(m) for m in model.neck.modules()]
    x = torch.randn(2, 256)
    head = model.bbox_embed[0]
    hidden = x
    for linear in head.layers[:-1]:
        y = hidden @ linear.weight.T + linear.bias
        hidden = y / (1 + torch.exp(-y))
    expected = hidden @ head.layers[-1].weight.T + head.layers[-1].bias
    assert torch.allclose(head(x), expected, atol=1e-6)


# Ours to the released names (engine/backbone/presnet.py, engine/deim of DEIM).
RELEASED = (
    (r"^backbone\.stem\.conv(\d)", r"backbone.conv1.conv1_\1"),
    (r"^backbone\.res2\.0\.shortcut\.1", "backbone.res_layers.0.blocks.0.short"),
    (r"shortcut\.1", "short.conv"),  # after a pooling layer
    *((rf"^backbone\.res{i + 2}", f"backbone.res_layers.{i}.blocks") for i in range(4)),
    *((rf"(blocks\.\d+)\.conv{i + 1}", rf"\1.branch2{letter}") for i, letter in enumerate("abc")),
    (r"^(backbone\..*)(?<!norm)\.weight$", r"\1.conv.weight"),
    (r"^neck\.aifi(.*)norms\.0", r"encoder.encoder.0\1norm1"),
    (r"^neck\.aifi(.*)norms\.1", r"encoder.encoder.0\1norm2"),
    (r"^neck\.aifi", "encoder.encoder.0"),
    (r"^neck\.output_proj", "decoder.input_proj"),
    (r"^neck", "encoder"),
    (
        r"^(\w+coder\.(?:input_proj|lateral|fpn|downsample|pan).*)(?<!norm)\.weight$",
        r"\1.conv.weight",
    ),
    (r"^label_enc", "decoder.denoising_class_embed"),
    (r"^transformer\.enc_output_norm", "decoder.enc_output.norm"),
    (r"^transformer\.enc_output", "decoder.enc_output.proj"),
    (r"^transformer\.decoder\.ref_point_head", "decoder.query_pos_head"),
    (r"^transformer\.decoder", "decoder.decoder"),
    *((rf"norms\.{i}", f"norm{i + 1}") for i in range(3)),
    (r"attentions\.0\.attn", "self_attn"),
    (r"attentions\.1", "cross_attn"),
    (r"ffns\.0\.layers\.0\.0", "linear1"),
    (r"ffns\.0\.layers\.1", "linear2"),
)


@pytest.mark.parametrize("name", ["deim_r18vd_120e_coco", "deim_r50vd_60e_coco"])
def test_released_names_are_converted(name: str) -> None:
    model = build(name)
    layers, weights = len(model.transformer.decoder.layers), {}
    heads = {"class_embed": "score_head", "bbox_embed": "bbox_head"}
    for key, value in model.state_dict().items():
        part, _, rest = key.removeprefix("transformer.decoder.").partition(".")
        if part in heads:
            number, _, rest = rest.partition(".")
            last = number == str(layers)
            new = f"decoder.{'enc' if last else 'dec'}_{heads[part]}."
            new += rest if last else f"{number}.{rest}"
        else:
            new = key
            for pattern, replacement in RELEASED:
                new = re.sub(pattern, replacement, new)
        weights[new] = value
    label = "decoder.denoising_class_embed.weight"
    weights[label] = torch.empty(
        weights[label].shape[0] + 1, weights[label].shape[1], device="meta"
    )
    weights |= {"decoder.anchors": weights[label], "decoder.valid_mask": weights[label]}
    assert "backbone.res_layers.1.blocks.0.short.conv.conv.weight" in weights
    assert "encoder.fpn_blocks.0.bottlenecks.0.conv1.conv.weight" in weights
    assert detect_layout(weights) == "rt_detr_repository"
    report = compare(model, convert(weights, "rt_detr_repository"))
    assert not report.unexpected and not report.misshaped and not report.missing


def test_two_schedules_meet_in_one_training_step() -> None:
    """The late cost and the matchability-aware loss train together."""
    model = tiny("projects/deim/configs/deim_r50vd_60e_high_order_coco.py").train()
    matcher = model.criterion.matcher
    matcher.matcher_change_iter, matcher.iter = 5, 5
    batch = [image(64, 64, 3, seed=1), image(64, 64, 2, seed=2)]
    losses = model(batch)
    assert matcher.is_high_order and all(loss.isfinite() for loss in losses.values())


def test_the_sample_config_changes_the_recipe() -> None:
    mapper = resolved("deim_efficientnet_lite0_sample_data").dataloader.train.mapper
    mosaic, affine = mapper.windows[0].transforms[0].transforms[0].transforms[:2]
    assert (mosaic["size"], affine.degrees, len(mapper.transforms)) == (128, 0, 3)


def test_a_saved_config_is_data_and_means_the_same(tmp_path) -> None:
    cfg = resolved("deim_r50vd_60e_high_order_coco")
    (tmp_path / "config.yaml").write_text(config_yaml(cfg))
    saved = load_config(str(tmp_path / "config.yaml"))  # without --trust-config
    resolve_schedule(saved, EPOCH)
    assert config_yaml(saved) == config_yaml(cfg)


def test_the_sample_config_trains_three_steps(tmp_path) -> None:
    """One in each window: two windows of images of 64 pixels, then none."""
    small = [
        "dataloader.train.mapper.transforms.1.size=[64,64]",
        "dataloader.train.mapper.windows.0.start=0",
        "dataloader.train.mapper.windows.0.stop=1",
        "dataloader.train.mapper.windows.0.transforms.0.p=[1,0]",
        "dataloader.train.mapper.windows.1.start=1",
        "dataloader.train.mapper.windows.1.stop=2",
        "dataloader.train.num_workers=0",
        "dataloader.evaluator=null",
        "train.init_checkpoint=",
        f"train.output_dir={tmp_path / 'run'}",
    ]
    lengths = ["train.max_iter=3", "train.eval_period=0", "train.log_period=1"]
    path = str(CONFIGS / "deim_efficientnet_lite0_sample_data.py")
    words = ["--config-file", path, *write_data(tmp_path / "data"), *small, *lengths]
    run(default_argument_parser().parse_intermixed_args(words))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.json").open()]
    assert [line["iteration"] for line in lines] == [0, 1, 2]
    assert all(0 < line["total_loss"] < 1000 for line in lines)
    assert (tmp_path / "run/model_final.pth").is_file()
