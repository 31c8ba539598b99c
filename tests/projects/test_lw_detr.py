"""LW-DETR and RF-DETR against the transformers library: same weights, same predictions and losses.

The library masks tokens that may not be proposed, upstream does not; images are so small here that
there are none.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.layers import ShapeSpec
from torch import nn

from benchmarks.rt_detr import published_weights, randomised
from detrex.checkpoint import compare
from detrex.checkpoint.convert import convert, detect_layout
from tests.models import ROOT, image, tiny

transformers = pytest.importorskip("transformers")
SIDE, WIDTH, GROUPS, QUERIES = 128, 48, 3, 6
DECODER = dict(
    d_model=32,
    decoder_ffn_dim=64,
    decoder_n_points=2,
    decoder_layers=2,
    decoder_self_attention_heads=2,
    decoder_cross_attention_heads=4,
    num_queries=QUERIES,
    group_detr=GROUPS,
    num_labels=5,
    dropout=0.0,
)


def lw_detr(scales: tuple[float, ...], width: int = WIDTH) -> nn.Module:
    """The library's LW-DETR with random weights and levels of these scales."""
    backbone = dict(
        model_type="lw_detr_vit",
        image_size=SIDE,
        hidden_size=width,
        num_hidden_layers=4,
        num_attention_heads=4,
        window_block_indices=[0, 2],
        out_indices=[2, 4],
    )
    config = transformers.LwDetrConfig(
        backbone_config=backbone, projector_scale_factors=scales, **DECODER
    )
    return randomised(transformers.LwDetrForObjectDetection(config))


def rf_detr() -> nn.Module:
    """The library's RF-DETR; its norms have the epsilon of RF-DETR's code."""
    backbone = dict(
        model_type="rf_detr_dinov2",
        image_size=96,
        patch_size=16,
        hidden_size=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        out_indices=[2, 4],
        num_windows=2,
    )
    config = transformers.RfDetrConfig(backbone_config=backbone, layer_norm_eps=1e-6, **DECODER)
    return randomised(transformers.RfDetrForObjectDetection(config))


def small(config: str, width: int = WIDTH, global_indices: tuple[int, ...] = (1, 3)) -> nn.Module:
    """A shipped config's model of the same size."""
    cfg = LazyConfig.load(str(ROOT / config)).model
    cfg.backbone.update(out_indices=[1, 3], global_indices=list(global_indices))
    options = dict(embed_dim=width, depth=4, num_heads=4, drop_path_rate=0.0)
    cfg.backbone.model_options.update(options)
    if "img_size" in cfg.backbone.model_options:
        cfg.backbone.model_options.img_size = 96
        cfg.train_sizes = []
    else:
        cfg.neck.norm = "BN"
    cfg.neck.input_shapes = {name: ShapeSpec(channels=width) for name in ("p1", "p3")}
    cfg.neck.out_channels = 32
    cfg.transformer.decoder.update(
        embed_dim=32, num_heads=2, feedforward_dim=64, num_layers=2, num_points=2
    )
    cfg.update(num_queries=QUERIES, group_nums=GROUPS, num_classes=5)
    model = instantiate(cfg)
    model.criterion.overlap_eps = 0.0  # as upstream
    return model


LW = "projects/lw_detr/configs/lw_detr_{}_60e_coco.py"
CASES = {  # the blocks of RF-DETR that attend globally come after those that are read
    "lw": (lambda: lw_detr((1.0,)), lambda: small(LW.format("small"))),
    "lw, two levels": (lambda: lw_detr((2.0, 0.5)), lambda: small(LW.format("large"))),
    "lw, wide": (lambda: lw_detr((2.0, 0.5), 520), lambda: small(LW.format("xlarge"), 520)),
    "rf": (
        rf_detr,
        lambda: small("projects/rf_detr/configs/rf_detr_nano_coco.py", global_indices=(2,)),
    ),
}


def pair(case: str, folder: Path) -> tuple[nn.Module, nn.Module]:
    """The library's model and ours with the weights that it writes."""
    torch.manual_seed(0)
    original, ours = (build() for build in CASES[case])
    weights = published_weights(original, folder)
    converted = convert(weights, detect_layout(weights))
    report = compare(ours, converted)
    assert not report.missing and not report.unexpected and not report.misshaped
    ours.load_state_dict(converted, strict=False)
    return original, ours


def batch() -> list[dict]:
    """Two images with objects, whose places differ also where levels are coarse."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 9, 9, generator=generator) * 255
    pixels = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 255).byte()
    records = [image(SIDE, SIDE, count, seed=count) for count in (3, 2)]
    return [{**record, "image": x} for record, x in zip(records, pixels, strict=True)]


def inputs(model: nn.Module) -> torch.Tensor:
    return torch.stack([model.normalizer(x["image"]) for x in batch()])


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_and_boxes_equal_those_of_transformers(case: str, tmp_path: Path) -> None:
    original, ours = pair(case, tmp_path)
    ours.eval()
    outputs, queries = ours.run(ours.encode(ours.preprocess(batch())))
    expected = original.eval()(pixel_values=inputs(ours))
    assert min(x.std(1).min() for x in (expected.logits, expected.pred_boxes)) > 1e-3
    close = dict(rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outputs.logits[-1], expected.logits, **close)
    torch.testing.assert_close(outputs.boxes[-1], expected.pred_boxes, **close)
    first = original.class_embed(expected.intermediate_hidden_states[0])
    torch.testing.assert_close(outputs.logits[0], first, **close)
    (proposals,) = queries.proposals
    torch.testing.assert_close(proposals.logits[0], expected.enc_outputs_class, **close)
    torch.testing.assert_close(proposals.boxes[0], expected.enc_outputs_coord_logits, **close)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_equal_those_of_transformers(case: str, tmp_path: Path) -> None:
    original, ours = pair(case, tmp_path)
    original.train()
    losses = ours.train()(batch())
    targets = ours.targets(batch())
    labels = [{"class_labels": t["labels"], "boxes": t["boxes"]} for t in targets]
    expected = original(pixel_values=inputs(ours), labels=labels)
    assert expected.logits.shape[1] == GROUPS * QUERIES
    torch.testing.assert_close(sum(losses.values()), expected.loss, rtol=1e-4, atol=0)
    factors = {"class": ("ce", 1), "bbox": ("bbox", 5), "giou": ("giou", 2)}
    for name, loss in losses.items():
        kind, _, layer = name.removeprefix("loss_").partition("_")
        other, factor = factors[kind]
        other = expected.loss_dict["_".join(filter(None, ("loss", other, layer)))]
        torch.testing.assert_close(loss, factor * other, rtol=1e-4, atol=1e-6)
    sum(losses.values()).backward()
    expected.loss.backward()
    pairs = {
        f"transformer.enc_output.{GROUPS - 1}.weight": f"model.enc_output.{GROUPS - 1}.weight",
        "transformer.decoder.ref_point_head.layers.0.weight": (
            "model.decoder.ref_point_head.layers.0.weight"
        ),
        "refpoint_embed.weight": "model.reference_point_embed.weight",
        "query_feat.weight": "model.query_feat.weight",
        "class_embed.weight": "class_embed.weight",
        "backbone.timm_model.patch_embed.proj.bias": (
            "model.backbone.backbone.embeddings.projection.bias"
            if case != "rf"
            else "model.backbone.backbone.embeddings.patch_embeddings.projection.bias"
        ),
    }
    for mine, other in pairs.items():
        a, b = ours.get_parameter(mine).grad, original.get_parameter(other).grad
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * b.abs().max().item())


def test_rf_detrs_batches_become_squares_by_interpolation() -> None:
    model = tiny("projects/rf_detr/configs/rf_detr_nano_coco.py", train_sizes=[96]).train()
    images = model.preprocess(batch())
    expected = nn.functional.interpolate(inputs(model), (96, 96), mode="bilinear")
    torch.testing.assert_close(images.pixels, expected)
    assert images.sizes == [(96, 96)] * 2 and not images.mask.any()
