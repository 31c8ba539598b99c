"""RT-DETR against the transformers library: same weights, same predictions and losses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from torch import nn

from benchmarks.rt_detr import published_weights, randomised
from detrex.checkpoint import compare
from detrex.checkpoint.convert import convert, detect_layout
from detrex.config.lengths import scheduled_modules
from tests.models import ROOT, image, tiny

transformers = pytest.importorskip("transformers")
CONFIGS = ROOT / "projects/rt_detr/configs"
SIDE = 128


def images() -> torch.Tensor:
    """Pixels (2, 3, SIDE, SIDE) whose places differ also where the levels are coarse."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 9, 9, generator=generator) * 255
    return nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 255).byte()


def reference(depth: int, v2: str | None = None) -> nn.Module:
    """The library's model with random weights and norm statistics; ``v2``: way of sampling."""
    basic = depth < 50
    backbone = transformers.RTDetrResNetConfig(
        depths={18: [2, 2, 2, 2], 50: [3, 4, 6, 3]}[depth],
        hidden_sizes=[64, 128, 256, 512] if basic else [256, 512, 1024, 2048],
        layer_type="basic" if basic else "bottleneck",
        out_features=["stage2", "stage3", "stage4"],
    )
    options = dict(
        backbone_config=backbone,
        encoder_in_channels=[128, 256, 512] if basic else [512, 1024, 2048],
        hidden_expansion=0.5 if basic else 1.0,
        decoder_layers=3 if basic else 6,
        num_queries=10,
        num_labels=5,
        label_noise_ratio=0.0,
        box_noise_scale=1e-6,
    )
    torch.manual_seed(0)
    if v2:
        config = transformers.RTDetrV2Config(**options, decoder_method=v2)
        model = transformers.RTDetrV2ForObjectDetection(config)
    else:
        model = transformers.RTDetrForObjectDetection(transformers.RTDetrConfig(**options))
    return randomised(model)


def same(model: nn.Module, config: str, folder: Path, **overrides) -> nn.Module:
    """Ours with the weights that the library's model writes."""
    weights = published_weights(model, folder)
    assert detect_layout(weights) == "rt_detr"
    cfg = LazyConfig.load(str(CONFIGS / config)).model
    cfg.update(num_queries=10, num_classes=5, label_noise_ratio=0.0, box_noise_scale=1e-6)
    for part in (cfg.backbone.stem, cfg.backbone.stages):
        part.norm = "FrozenBN"  # as theirs
    cfg.transformer.decoder.update(overrides)
    ours, converted = instantiate(cfg).eval(), convert(weights, "rt_detr")
    report = compare(ours, converted)
    assert not report.missing and not report.unexpected and not report.misshaped
    ours.load_state_dict(converted, strict=False)
    return ours


CASES = {
    "r18": (18, None, "rtdetr_r18vd_6x_coco.py", {}),
    "r50": (50, None, "rtdetr_r50vd_6x_coco.py", {}),
    "v2": (18, "default", "rtdetr_r18vd_6x_coco.py", {}),
    "v2 discrete": (18, "discrete", "rtdetr_r18vd_6x_coco.py", {"discrete_sampling": True}),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_and_boxes_equal_those_of_transformers(case: str, tmp_path: Path) -> None:
    depth, v2, config, overrides = CASES[case]
    original = reference(depth, v2)
    ours = same(original, config, tmp_path, **overrides)
    found, _ = ours.run(ours.encode(ours.preprocess([{"image": x} for x in images()])))
    expected = original(pixel_values=images() / 255.0)
    assert min(x.std(1).min() for x in (expected.logits, expected.pred_boxes)) > 1e-4
    close = dict(rtol=0, atol=1e-4)
    torch.testing.assert_close(found.logits, expected.intermediate_logits.transpose(0, 1), **close)
    torch.testing.assert_close(found.boxes[-1], expected.pred_boxes, **close)


def target_of(labels: list[int], boxes: list[list[float]]) -> dict[str, torch.Tensor]:
    return {"labels": torch.tensor(labels), "boxes": torch.tensor(boxes)}


def test_losses_equal_those_of_transformers(tmp_path: Path) -> None:
    """Without noise to speak of denoising is not random; images with as many targets need no
    padding, which sees other places there. Their main loss leaves denoising queries out."""
    original = reference(18)
    ours = same(original, "rtdetr_r18vd_6x_coco.py", tmp_path).train()
    ours.train_sizes = ()
    ours.transformer.decoder.look_forward_twice = False  # original does not
    original.train()
    batch = [image(SIDE, SIDE, 3, seed=seed) for seed in (1, 2)]
    for record, pixels in zip(batch, images(), strict=True):
        record["image"] = pixels
    losses = ours(batch)
    targets = ours.targets(batch)
    labels = [{"class_labels": t["labels"], "boxes": t["boxes"]} for t in targets]
    expected = original(pixel_values=images() / 255.0, labels=labels)
    torch.testing.assert_close(sum(losses.values()), expected.loss, rtol=1e-4, atol=0)
    sum(losses.values()).backward()
    expected.loss.backward()
    pairs = {
        "transformer.enc_output.weight": "model.enc_output.0.weight",
        "class_embed.3.weight": "model.enc_score_head.weight",
        "neck.fpn_blocks.0.conv1.norm.weight": "model.encoder.fpn_blocks.0.conv1.norm.weight",
    }
    for mine, other in pairs.items():
        a, b = ours.get_parameter(mine).grad, original.get_parameter(other).grad
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * b.abs().max().item())


def test_inference_ends_after_the_layers_that_are_scored() -> None:
    model = tiny("projects/rt_detr/configs/rtdetr_r50vd_m_6x_coco.py")
    decoder = model.transformer.decoder
    assert decoder.eval_layers == 3
    decoder.eval_layers = 1
    batch = [image(64, 64, 1, seed=1)]
    with torch.no_grad():
        images = model.eval().preprocess(batch)
        first, _ = model.run(model.encode(images))
        decoder.eval_layers = None
        found, _ = model.run(model.encode(images))
        assert len(first.logits) == 1 and len(found.logits) == 2
        assert torch.equal(first.boxes[0], found.boxes[0])
        decoder.eval_layers = 1
        assert {"loss_class_0", "loss_class"} <= model.train()(batch).keys()


def test_training_batches_become_squares_of_one_drawn_size() -> None:
    model = tiny("projects/rt_detr/configs/rtdetr_r50vd_6x_coco.py", train_sizes=[32, 64])
    batch = [image(40, 80, 1, seed=1), image(20, 80, 1, seed=2)]
    drawn = [model.train().preprocess(batch) for _ in range(20)]
    assert {images.pixels.shape[2:] for images in drawn} == {(32, 32), (64, 64)}
    for images in drawn:
        side = images.pixels.shape[2]
        assert images.sizes == [(side, side), (side // 2, side)]
        assert not images.mask[0].any()
        assert images.mask[1, side // 2 :].all() and not images.mask[1, : side // 2].any()
    assert model.eval().preprocess(batch).pixels.shape[2:] == (40, 80)


def test_sizes_are_drawn_until_an_iteration() -> None:
    model = tiny("projects/rt_detr/configs/rtdetr_r50vd_6x_coco.py", train_sizes=[32])
    model.train().train_sizes_until = 5
    batch = [image(40, 80, 1, seed=1)]
    for iteration, shape in ((-1, (32, 32)), (0, (32, 32)), (4, (32, 32)), (5, (40, 80))):
        for module in scheduled_modules(model):
            module.iter = iteration
        assert model.preprocess(batch).pixels.shape[2:] == shape
