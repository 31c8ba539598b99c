"""D-FINE against the transformers library, and what its own tests in tests/parity leave open."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from torch import nn

from benchmarks.rt_detr import published_weights, randomised
from detrex.checkpoint import compare
from detrex.checkpoint.convert import convert, detect_layout
from tests.models import ROOT, image, tiny

CONFIGS = "projects/d_fine/configs"
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


CASES = {
    "s": ("s", dict(hidden_expansion=0.5, depth_mult=0.34)),
    "x's neck": ("x", dict(encoder_hidden_dim=384, encoder_ffn_dim=2048, reg_scale=8.0)),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_and_boxes_equal_those_of_transformers(case: str, tmp_path: Path) -> None:
    size, options = CASES[case]
    if size == "x":
        options = {**options, "decoder_in_channels": [384] * 3}
    original = reference(**options)
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
    close = dict(rtol=0, atol=1e-4)
    torch.testing.assert_close(outputs.logits[-1], expected.logits, **close)
    torch.testing.assert_close(outputs.boxes[-1], expected.pred_boxes, **close)
