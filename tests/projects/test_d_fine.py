"""D-FINE against the transformers library, and what its own tests in tests/parity leave open."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch
from detectron2.config import LazyConfig, instantiate
from torch import nn

from benchmarks.rt_detr import published_weights, randomised
from detrex.checkpoint import compare
from detrex.checkpoint.convert import convert, detect_layout
from tests.models import ROOT, image, tiny
from tests.predict.graphs import fill_zeros

CONFIGS = "projects/d_fine/configs"
SAMPLE = f"{CONFIGS}/dfine_efficientnet_lite0_sample_data.py"
SMALL = f"{CONFIGS}/dfine_hgnetv2_s_coco.py"
BATCH = [image(64, 64, 3, seed=1), image(64, 64, 2, seed=2)]
SIDE = 128


def reference(**options) -> nn.Module:
    """The library's model with HGNetv2-B0 and random weights and norm statistics."""
    transformers = pytest.importorskip("transformers")
    backbone = transformers.HGNetV2Config(
        stem_channels=[3, 16, 16],
        stage_in_channels=[16, 64, 256, 512],
        stage_mid_channels=[16, 32, 64, 128],
        stage_out_channels=[64, 256, 512, 1024],
        hidden_sizes=[64, 256, 512, 1024],
        stage_num_blocks=[1, 1, 2, 1],
        stage_numb_of_layers=[3, 3, 3, 3],
        use_learnable_affine_block=True,
        out_features=["stage2", "stage3", "stage4"],
    )
    config = transformers.DFineConfig(
        backbone_config=backbone,
        encoder_in_channels=[256, 512, 1024],
        decoder_layers=3,
        decoder_n_points=[3, 6, 3],
        num_queries=10,
        num_labels=5,
        **options,
    )
    torch.manual_seed(0)
    return randomised(transformers.DFineForObjectDetection(config))


# The decoder that follows a wide random neck magnifies rounding: in float64 it differs by 6e-6.
CASES = {
    "s": ("s", 1e-4, dict(hidden_expansion=0.5, depth_mult=0.34)),
    "x's neck": ("x", 1e-2, dict(encoder_hidden_dim=384, reg_scale=8.0, encoder_ffn_dim=2048)),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_and_boxes_equal_those_of_transformers(case: str, tmp_path: Path) -> None:
    size, tolerance, options = CASES[case]
    width = options.get("encoder_hidden_dim", 256)
    original = reference(**options, decoder_in_channels=[width] * 3)
    weights = published_weights(original, tmp_path)
    assert detect_layout(weights) == "d_fine_transformers"
    cfg = LazyConfig.load(str(ROOT / CONFIGS / f"dfine_hgnetv2_{size}_coco.py")).model
    cfg.backbone = LazyConfig.load(str(ROOT / SMALL)).model.backbone
    cfg.neck.input_shapes = LazyConfig.load(str(ROOT / SMALL)).model.neck.input_shapes
    cfg.transformer.decoder.num_layers = 3
    cfg.update(num_queries=10, num_classes=5)
    ours, converted = instantiate(cfg).eval(), convert(weights, "d_fine_transformers")
    report = compare(ours, converted)
    assert not report.missing and not report.unexpected and not report.misshaped
    ours.load_state_dict(converted, strict=False)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 9, 9, generator=generator) * 255
    images = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 255).byte()
    outputs, _ = ours.run(ours.encode(ours.preprocess([{"image": x} for x in images])))
    expected = original(pixel_values=images / 255.0)
    assert min(x.std(1).min() for x in (expected.logits, expected.pred_boxes)) > 1e-4
    torch.testing.assert_close(outputs.logits[-1], expected.logits, rtol=0, atol=tolerance)
    torch.testing.assert_close(outputs.boxes[-1], expected.pred_boxes, rtol=0, atol=1e-4)


# Ours to the released names, of what the golden transformer of tests/parity lacks.
RELEASED = (
    (r"^backbone\.timm_model\.stages_(\d)", r"backbone.stages.\1"),
    (r"^backbone\.timm_model", "backbone"),
    (r"^neck\.aifi\.layers\.0\.norms\.0", "encoder.encoder.0.layers.0.norm1"),
    (r"^neck\.aifi\.layers\.0\.norms\.1", "encoder.encoder.0.layers.0.norm2"),
    (r"^neck\.aifi", "encoder.encoder.0"),
    (r"attentions\.0\.attn", "self_attn"),
    (r"ffns\.0\.layers\.0\.0", "linear1"),
    (r"ffns\.0\.layers\.1", "linear2"),
    (r"^(neck\.downsample_convs\.\d)\.0\.", r"\1.0.cv1."),
    (r"^(neck\.downsample_convs\.\d)\.1\.", r"\1.0.cv2."),
    (r"^(neck\.\w+_blocks\.\d)\.conv1\.", r"\1.cv1."),
    (r"^(neck\.\w+_blocks\.\d)\.conv2\.", r"\1.cv2.1."),
    (r"^(neck\.\w+_blocks\.\d)\.conv3\.", r"\1.cv3.1."),
    (r"^(neck\.\w+_blocks\.\d)\.conv4\.", r"\1.cv4."),
    (r"^(neck\.\w+_blocks\.\d)\.csp_rep1\.", r"\1.cv2.0."),
    (r"^(neck\.\w+_blocks\.\d)\.csp_rep2\.", r"\1.cv3.0."),
    (r"^neck\.(\w+_proj|lateral\w+|down\w+|\w+_blocks)(.*)\.weight$", r"encoder.\1\2.conv.weight"),
    (r"^neck\.", "encoder."),
    (r"norm\.conv\.weight", "norm.weight"),
)


def test_released_names_of_backbone_and_neck_are_converted() -> None:
    model = tiny(SMALL)
    weights = {"decoder.pre_bbox_head.layers.0.weight": torch.zeros(256, 256)}
    for name, value in model.state_dict().items():
        if name.startswith(("backbone.", "neck.")):
            for pattern, replacement in RELEASED:
                name = re.sub(pattern, replacement, name)
            weights[name] = value
    assert detect_layout(weights) == "d_fine"
    report = compare(model, convert(weights, "d_fine"))
    assert not report.unexpected and not report.misshaped
    assert not [name for name in report.missing if name.startswith(("backbone.", "neck."))]


def test_imagenet_weights_of_timm_fit_the_backbone() -> None:
    weights = timm.create_model("hgnetv2_b0").state_dict()
    assert detect_layout(weights) == "hgnetv2"
    converted, model = convert(weights, "hgnetv2"), tiny(SMALL)
    report = compare(model, converted)
    assert not report.unexpected and not report.misshaped
    assert not [name for name in report.missing if name.startswith("backbone.")]


def light(**options) -> nn.Module:
    """A small model in which nothing is zero that training would change."""
    model = tiny(SAMPLE, **options)
    fill_zeros(model)
    return model.train()


def losses(model: nn.Module, batch: list[dict]) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return model(batch)


def test_denoising_does_not_move_the_other_queries() -> None:
    model = light().requires_grad_(False)
    model.eval().transformer.decoder.training = True
    targets = model.targets(BATCH)
    memory = model.encode(model.preprocess(BATCH))
    with_, _ = model.run(memory, targets)
    without, _ = model.run(memory, None)
    count = without.logits.shape[2]
    assert with_.logits.shape[2] > count
    for x, y in zip(with_[:5], without[:5], strict=True):
        torch.testing.assert_close(x[:, :, :count], y, rtol=1e-4, atol=1e-5)


def test_the_quality_estimate_is_part_of_every_score_but_the_initial() -> None:
    model = light().requires_grad_(False)
    memory = model.encode(model.preprocess(BATCH))
    outputs, queries = model.run(memory, None)
    pairs = zip(model.transformer.decoder.quality_embed, outputs.corners, strict=True)
    estimates = torch.stack([head(x) for head, x in pairs])
    torch.testing.assert_close(outputs.logits, outputs.class_logits + estimates)
    assert estimates.abs().min() > 0
    refined, initial = model.supervised_sets(outputs, queries.groups)
    assert torch.equal(refined.logits, outputs.logits)
    assert torch.equal(initial.logits[0], outputs.class_logits[0])
    plain = light(transformer__decoder__quality_estimate=False)
    outputs, _ = plain.run(plain.encode(plain.preprocess(BATCH)), None)
    assert torch.equal(outputs.logits, outputs.class_logits)


def test_images_without_objects_and_more_objects_than_queries() -> None:
    model = light()
    empty = [image(64, 64, 0, seed=1), image(64, 64, 0, seed=2)]
    for batch in (empty, [image(64, 64, 40, seed=3), empty[0]]):
        total = sum(losses(model, batch).values())
        total.backward()
        assert total.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_loss_of_the_small_model_falls() -> None:
    model = tiny(SAMPLE).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    history = []
    for _ in range(10):
        loss = sum(losses(model, BATCH).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 0.1)
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-3:]) < 0.9 * sum(history[:3]), history
