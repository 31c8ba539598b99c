"""A project that was written for upstream trains, saves and evaluates here with its own script."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from torch import nn

from detrex.layers import FFN, BaseTransformerLayer, MultiheadAttention, TransformerLayerSequence
from detrex.utils import inverse_sigmoid
from tests.compat.mini_fork import train_net
from tests.compat.mini_fork.data import two_batches
from tests.modeling.test_criterion import plain_losses
from tests.models import image, tiny

CONFIG = str(Path(train_net.__file__).with_name("config.py"))


def test_losses_weighted_in_place_equal_a_plain_computation() -> None:
    torch.manual_seed(0)
    model = instantiate(LazyConfig.load(CONFIG).model).train()
    batch = two_batches()[0]
    losses = model(batch)
    sum(losses.values()).backward()
    classes, coords, _ = model.outputs(batch)
    targets = model.prepare_targets([x["instances"] for x in batch])

    def assign(logits, boxes, targets) -> list[dict[int, int]]:
        """By the fork's own matcher."""
        pairs = model.criterion.matcher({"pred_logits": logits, "pred_boxes": boxes}, targets)
        return [dict(zip(q.tolist(), t.tolist(), strict=True)) for q, t in pairs]

    for layer, suffix in ((0, "_0"), (1, "")):
        layers = classes[layer], coords[layer]
        plain = plain_losses(*layers, targets, "focal_loss", assign=assign)
        for name, factor in (("loss_class", 2.0), ("loss_bbox", 5.0), ("loss_giou", 2.0)):
            assert losses.pop(name + suffix).item() == pytest.approx(factor * plain[name], rel=1e-5)
    assert not losses
    grads = {name: p.grad for name, p in model.named_parameters()}
    assert all(grad is not None for grad in grads.values())


def test_its_script_trains_saves_and_evaluates(tmp_path: Path) -> None:
    options = [f"train.output_dir={tmp_path}"]
    torch.manual_seed(0)
    trainer = train_net.main(["--config-file", CONFIG, *options])
    first, second = trainer.losses
    assert first.keys() == second.keys() and all(v > 0 for v in first.values())
    saved = torch.load(tmp_path / "model_final.pth", weights_only=False)
    weights, averages = saved["model"], saved["ema_state"]
    moved = [k for k, v in averages.items() if not torch.equal(v, weights[k])]
    assert moved  # the averages lag behind
    scores = train_net.main(
        ["--config-file", CONFIG, "--eval-only", *options]
        + [f"train.init_checkpoint={tmp_path}/model_final.pth"]
    )
    assert scores["bbox"]["detections"] == 8.0


class AnchorDecoder(TransformerLayerSequence):
    """As SQR's beside DAB-DETR: sequence first, more sets in training, no method of ours."""

    def __init__(self, embed_dim: int = 256, num_layers: int = 2, **others) -> None:
        attention = MultiheadAttention(embed_dim, 8)
        modules = dict(ffn=FFN(embed_dim, 32), norm=nn.LayerNorm(embed_dim))
        order = ("cross_attn", "norm", "ffn", "norm")
        layer = BaseTransformerLayer(attn=attention, operation_order=order, **modules)
        super().__init__(layer, num_layers)
        self.bbox_embed = None

    def forward(self, query, key, value, key_pos=None, anchor_box_embed=None, attn_masks=None):
        assert attn_masks is None and self.bbox_embed is not None
        boxes, states = anchor_box_embed.sigmoid(), []
        for layer in self.layers:
            query = layer(query, key, value, query_pos=query, key_pos=key_pos)
            states.append(query)
        states += states if anchor_box_embed.requires_grad else []
        references = torch.stack([boxes] * len(states))
        return [torch.stack(states).transpose(1, 2), references.transpose(1, 2)]


def test_a_decoder_of_upstreams_arguments_beside_dab_detr() -> None:
    decoder = L(AnchorDecoder)()
    model = tiny("projects/dab_detr/configs/dab_detr_r50_50ep.py", transformer__decoder=decoder)
    with torch.no_grad():
        model.bbox_embed.layers[-1].bias.copy_(torch.tensor([0.5, 0.0, 0.0, 0.0]))
    batch = [image(48, 64, 2, seed=1), image(64, 48, 1, seed=2)]
    losses = model.train()(batch)
    sum(losses.values()).backward()
    assert {"loss_class_0", "loss_class_1", "loss_class_2", "loss_class"} <= losses.keys()
    assert model.transformer.decoder.layers[0].attentions[0].attn.in_proj_weight.grad is not None
    with torch.no_grad():
        found, queries = model.eval().run(model.encode(model.preprocess(batch)))
    assert found.boxes.shape == (2, 2, 10, 4)
    moved = found.boxes.logit() - inverse_sigmoid(queries.boxes)
    expected = torch.tensor([0.5, 0.0, 0.0, 0.0]).expand_as(moved)
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)
