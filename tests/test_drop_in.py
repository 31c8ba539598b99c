"""What detrex's focus_detr, sqr_detr, pnp_detr and deta import works as they use it."""

from __future__ import annotations

import importlib
import inspect

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import LazyConfig
from detectron2.layers import ShapeSpec
from torch import nn

from detrex.config import get_config
from detrex.data import DetrDatasetMapper
from detrex.layers import (
    FFN,
    BaseTransformerLayer,
    ConditionalCrossAttention,
    ConditionalSelfAttention,
    MultiheadAttention,
    MultiScaleDeformableAttention,
    TransformerLayerSequence,
    box_cxcywh_to_xyxy,
    overlaps,
)
from detrex.modeling import ChannelMapper, HungarianMatcher, SetCriterion
from detrex.modeling.backbone import BasicStem, ResNet
from detrex.utils import get_world_size, is_dist_avail_and_initialized
from tests.models import ROOT

# name: modules that it is imported from, upstream's positional arguments in their order
NAMES = {
    "get_config": (["detrex.config"], "config_path"),
    "BaseTransformerLayer": (["detrex.layers"], "attn ffn norm operation_order"),
    "FFN": (
        ["detrex.layers", "detrex.layers.mlp"],
        "embed_dim feedforward_dim output_dim num_fcs activation ffn_drop fc_bias add_identity",
    ),
    "MLP": (
        ["detrex.layers", "detrex.layers.mlp"],
        "input_dim hidden_dim output_dim num_layers",
    ),
    "MultiScaleDeformableAttention": (
        ["detrex.layers"],
        "embed_dim num_heads num_levels num_points img2col_step dropout batch_first",
    ),
    "MultiheadAttention": (
        ["detrex.layers"],
        "embed_dim num_heads attn_drop proj_drop batch_first",
    ),
    "PositionEmbeddingSine": (
        ["detrex.layers", "detrex.layers.position_embedding"],
        "num_pos_feats temperature scale eps offset normalize",
    ),
    "TransformerLayerSequence": (["detrex.layers"], "transformer_layers num_layers"),
    "ConditionalCrossAttention": (
        ["detrex.layers"],
        "embed_dim num_heads attn_drop proj_drop batch_first",
    ),
    "ConditionalSelfAttention": (
        ["detrex.layers"],
        "embed_dim num_heads attn_drop proj_drop batch_first",
    ),
    "get_sine_pos_embed": (
        ["detrex.layers"],
        "pos_tensor num_pos_feats temperature exchange_xy",
    ),
    "box_cxcywh_to_xyxy": (["detrex.layers", "detrex.layers.box_ops"], "bbox"),
    "box_xyxy_to_cxcywh": (["detrex.layers", "detrex.layers.box_ops"], "bbox"),
    "box_iou": (["detrex.layers.box_ops"], "boxes1 boxes2"),
    "SetCriterion": (
        [
            "detrex.modeling",
            "detrex.modeling.criterion",
            "detrex.modeling.criterion.criterion",
        ],
        "num_classes matcher weight_dict losses eos_coef loss_class_type alpha gamma",
    ),
    "HungarianMatcher": (
        ["detrex.modeling", "detrex.modeling.matcher"],
        "cost_class cost_bbox cost_giou cost_class_type alpha gamma",
    ),
    "ChannelMapper": (
        ["detrex.modeling.neck"],
        "input_shapes in_features out_channels kernel_size stride bias groups dilation"
        " norm_layer activation num_outs",
    ),
    "BasicStem": (["detrex.modeling.backbone"], "in_channels out_channels norm"),
    "ResNet": (
        ["detrex.modeling.backbone"],
        "stem stages num_classes out_features freeze_at",
    ),
    "DetrDatasetMapper": (
        ["detrex.data"],
        "augmentation augmentation_with_crop is_train mask_on img_format",
    ),
    "inverse_sigmoid": (["detrex.utils"], "x eps"),
    "get_world_size": (["detrex.utils"], ""),
    "is_dist_avail_and_initialized": (["detrex.utils"], ""),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_have_upstreams_arguments(name: str) -> None:
    modules, arguments = NAMES[name]
    for module in modules:
        offered = getattr(importlib.import_module(module), name)
        found = list(inspect.signature(offered).parameters)
        assert found[: len(arguments.split())] == arguments.split()


class Layers(TransformerLayerSequence):
    """Encoders and decoders of these projects loop over ``self.layers`` themselves."""

    def forward(self, query, key, value, **kwargs):
        for layer in self.layers:
            query = layer(query, key, value, **kwargs)
        return query


def layers(attention: list[nn.Module], order: tuple[str, ...]) -> Layers:
    parts = dict(ffn=FFN(16, 32), norm=nn.LayerNorm(16), operation_order=order)
    return Layers(BaseTransformerLayer(attn=attention, **parts), num_layers=2)


def test_decoder_of_deformable_layers() -> None:
    """Focus-DETR, DETA."""
    torch.manual_seed(0)
    attention = [
        MultiheadAttention(embed_dim=16, num_heads=2, batch_first=True),
        MultiScaleDeformableAttention(embed_dim=16, num_heads=2, num_levels=1, batch_first=True),
    ]
    decoder = layers(attention, ("self_attn", "norm", "cross_attn", "norm", "ffn", "norm"))
    assert (decoder.embed_dim, decoder.num_layers, decoder.pre_norm) == (16, 2, False)
    query, memory = torch.randn(2, 5, 16), torch.randn(2, 12, 16)
    out = decoder(
        query,
        None,
        memory,
        query_pos=torch.randn(2, 5, 16),
        reference_points=torch.rand(2, 5, 1, 2),
        spatial_shapes=torch.tensor([[3, 4]]),
        level_start_index=torch.tensor([0]),
        key_padding_mask=torch.zeros(2, 12, dtype=torch.bool),
        attn_masks=[None, None],
    )
    assert out.shape == query.shape
    torch.testing.assert_close(out.mean(-1), torch.zeros(2, 5), atol=1e-6, rtol=0)  # last: a norm


def test_decoder_of_conditional_layers() -> None:
    """SQR's DAB-DETR: sequence first, the place's sine embedding from the caller."""
    torch.manual_seed(0)
    attention = [ConditionalSelfAttention(16, 2), ConditionalCrossAttention(16, 2)]
    decoder = layers(attention, ("self_attn", "norm", "cross_attn", "norm", "ffn", "norm"))
    query, memory = torch.randn(5, 2, 16), torch.randn(12, 2, 16)
    given = dict(query_pos=torch.randn(5, 2, 16), key_pos=torch.randn(12, 2, 16))
    given["query_sine_embed"] = torch.randn(5, 2, 16)
    first = decoder(query, memory, memory, is_first_layer=True, **given)
    assert first.shape == query.shape
    swapped = {name: value.flip(1) for name, value in given.items()}
    turned = decoder(query.flip(1), memory.flip(1), memory.flip(1), is_first_layer=True, **swapped)
    torch.testing.assert_close(turned.flip(1), first)  # the second axis is the batch


class ProjectCriterion(SetCriterion):
    """A criterion with a ``forward`` of its own, as Focus-DETR, DETA and SQR have."""

    def forward(self, outputs, targets):
        last = {name: value for name, value in outputs.items() if name != "aux_outputs"}
        found = {}
        count = max(sum(len(t["labels"]) for t in targets) / get_world_size(), 1)
        for suffix, layer in [("", last), ("_0", outputs["aux_outputs"][0])]:
            indices = self.matcher(layer, targets)
            for loss in self.losses:
                values = self.get_loss(loss, layer, targets, indices, count)
                found |= {f"{name}{suffix}": value for name, value in values.items()}
        return found


def criterion(cls: type[SetCriterion]) -> SetCriterion:
    return cls(
        num_classes=4,
        matcher=HungarianMatcher(2.0, 5.0, 2.0),
        weight_dict={"loss_class": 2.0, "loss_bbox": 5.0, "loss_giou": 2.0},
    )


def outputs_and_targets(counts: tuple[int, ...] = (3, 0, 2)) -> tuple[dict, list[dict]]:
    torch.manual_seed(0)

    def boxes(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, 4) * 0.4 + 0.3

    first, last = (
        {"pred_logits": torch.randn(3, 6, 4), "pred_boxes": boxes(3, 6)} for _ in range(2)
    )
    targets = [{"labels": torch.randint(0, 4, (n,)), "boxes": boxes(n)} for n in counts]
    return {**last, "aux_outputs": [first]}, targets


def test_losses_called_one_by_one_equal_the_criterions() -> None:
    outputs, targets = outputs_and_targets()
    found = criterion(ProjectCriterion)(outputs, targets)
    expected = criterion(SetCriterion)(outputs, targets)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_losses_of_given_pairs() -> None:
    """As denoising uses them: a target may have several queries, the divisor is the caller's."""
    outputs, targets = outputs_and_targets()
    queries, owners = torch.tensor([0, 1, 4, 5]), torch.tensor([2, 0, 1, 2])
    nothing = torch.tensor([], dtype=torch.int64)
    indices = [(queries, owners), (nothing, nothing), (torch.tensor([3]), torch.tensor([1]))]
    loss = criterion(SetCriterion)
    assert (loss.loss_class_type, loss.alpha, loss.gamma) == ("focal_loss", 0.25, 2.0)
    image, query = loss._get_src_permutation_idx(indices)
    assert image.tolist() == [0, 0, 0, 0, 2] and query.tolist() == [0, 1, 4, 5, 3]
    assert loss._get_tgt_permutation_idx(indices)[1].tolist() == [2, 0, 1, 2, 1]
    labels = torch.cat([targets[0]["labels"][owners], targets[2]["labels"][[1]]])
    gt = torch.cat([targets[0]["boxes"][owners], targets[2]["boxes"][[1]]])
    one_hot = torch.zeros(3, 6, 4)
    one_hot[image, query, labels] = 1.0
    x, boxes = outputs["pred_logits"], outputs["pred_boxes"][image, query]
    p = x.sigmoid()
    right = p * one_hot + (1 - p) * (1 - one_hot)
    weight = torch.where(one_hot > 0, 0.25, 0.75) * (1 - right) ** 2
    bce = F.binary_cross_entropy_with_logits(x, one_hot, reduction="none")
    giou = overlaps(box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(gt))[1]
    expected = {
        "loss_class": (weight * bce).sum() / 7.0,
        "loss_bbox": (boxes - gt).abs().sum() / 7.0,
        "loss_giou": (1 - giou).sum() / 7.0,
    }
    found = {
        **loss.get_loss("class", outputs, targets, indices, 7.0),
        **loss.get_loss("boxes", outputs, targets, indices, 7.0),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_backbone_and_neck() -> None:
    stages = ResNet.make_default_stages(depth=18, norm="FrozenBN")
    backbone = ResNet(BasicStem(norm="FrozenBN"), stages, out_features=["res5"], freeze_at=1)
    neck = ChannelMapper({"res5": ShapeSpec(channels=512)}, ["res5"], 16, 1, num_outs=2)
    levels = neck(backbone(torch.zeros(1, 3, 64, 64)))
    assert [tuple(x.shape) for x in levels] == [(1, 16, 2, 2), (1, 16, 1, 1)]


def test_configs_and_data() -> None:
    data = get_config("common/data/coco_detr.py").dataloader
    assert data.train.mapper._target_ in (DetrDatasetMapper, "detrex.data.DetrDatasetMapper")
    for epochs in (12, 24, 36, 50):
        assert f"lr_multiplier_{epochs}ep" in get_config("common/coco_schedule.py")
    assert get_config("common/optim.py").AdamW.lr == 1e-4
    assert get_config("common/train.py").train.clip_grad.params.max_norm == 0.1
    assert LazyConfig.load(str(ROOT / "configs/common/train.py")).train.max_iter == 90000
    assert not is_dist_avail_and_initialized() and get_world_size() == 1
