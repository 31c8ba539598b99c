"""Models that cannot be built, or not trained: the message names the key and the value."""

from __future__ import annotations

import math

import pytest
import torch
from detectron2.config import LazyCall as L
from torch import nn

from detrex.layers import (
    FFN,
    BaseTransformerLayer,
    MultiheadAttention,
    MultiScaleDeformableAttention,
)
from detrex.modeling import HungarianMatcher, SetCriterion
from detrex.modeling.backbone import TorchvisionResNet, make_stage, timm_parts
from detrex.modeling.queries import QueryGroup
from projects.anchor_detr.modeling import AnchorDETRTransformer
from projects.ddq_detr.modeling.dense_branch import DenseBranch
from projects.rank_detr.modeling import RankDETR
from tests.compat.test_forks import AnchorDecoder
from tests.models import RANK_DETR, image, tiny
from tests.refusals import assert_refused, refused

ANCHOR = "projects/anchor_detr/configs/anchor_detr_r50_50ep.py"
CONDITIONAL = "projects/conditional_detr/configs/conditional_detr_r50_50ep.py"
CO_DINO = "projects/co_detr/configs/co_dino_5scale_r50_1x_coco.py"
DAB = "projects/dab_detr/configs/dab_detr_r50_50ep.py"
DDQ = "projects/ddq_detr/configs/ddq_detr_r50_4scale_12ep.py"
DDQ_RANK = "projects/ddq_detr/configs/ddq_rank_detr_r50_two_stage_12ep.py"
DETR = "projects/detr/configs/detr_r50_300ep.py"
DINO = "projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py"
DN = "projects/dn_detr/configs/dn_detr_r50_50ep.py"
GROUP = "projects/group_detr/configs/group_detr_r50_50ep.py"
MS = "projects/ms_detr/configs/ms_detr_r50_12ep.py"
RANK_MR = "projects/rank_detr/configs/rank_mr_detr_align_r50_12ep.py"
RANK_RT = "projects/rank_rt_detr/configs/rank_rtdetr_r50vd_6x_coco.py"
TWO_GROUPS = [L(QueryGroup)(size=5), L(QueryGroup)(name="_x", size=5)]


class Dense(DenseBranch, RankDETR):
    pass


TWO_BLOCKS = [L(QueryGroup)(size=10, blocks=2)]
IOU = {"iou_branch": True, "criterion__weight_dict__loss_iou": 1.0}

CONFIGS = [
    (CONDITIONAL, {"transformer__decoder": L(AnchorDecoder)()}, ["model.transformer.decoder"]),
    (CO_DINO, {"soft_nms": -0.1}, ["model.soft_nms", "-0.1"]),
    (CO_DINO, {"soft_nms": 1.5}, ["model.soft_nms", "1.5"]),
    (DDQ, {"groups": TWO_BLOCKS}, ["model.groups", "2"]),
    (DDQ, {"dense_ratio": 0.05}, ["model.dense_ratio", "0.05"]),
    (DDQ_RANK, {"as_two_stage": False}, ["model.as_two_stage=True"]),
    (
        RANK_DETR,
        {"_target_": Dense, "as_two_stage": False, "k_dense": 3},
        ["model.k_dense=3", "model.as_two_stage=True"],
    ),
    (DETR, IOU, ["iou_branch"]),
    (
        DETR,
        {"criterion__loss_class_type": "mal_loss"},
        ["model.criterion.loss_class_type", "'ce_loss'", "'mal_loss'"],
    ),
    (DINO, {**IOU, "iou_weight": 1.5}, ["model.iou_weight", "1.5"]),
    (DINO, {"nms_iou": 2}, ["model.nms_iou", "2"]),
    (ANCHOR, {"nms_iou": "x"}, ["model.nms_iou", "'x'"]),
    (DN, {"transformer__num_patterns": 3}, ["num_patterns=0"]),
    (
        GROUP,
        {"group_nums": 3, "criterion__group_nums": 4},
        ["criterion.group_nums is 4", "3"],
    ),
    (RANK_MR, {"mix_scores": True}, ["model.mix_scores", "False"]),
    (MS, {"groups": TWO_GROUPS, "transformer__two_stage_num_proposals": 10}, ["groups"]),
    (
        RANK_DETR,
        {"transformer__two_stage_num_proposals": 7},
        ["two_stage_num_proposals is 7", "30"],
    ),
    (RANK_DETR, {"transformer__mixed_selection": False}, ["mixed_selection is False"]),
    (
        RANK_RT,
        {"transformer__decoder__rank_adaptive_classhead": False},
        ["model.transformer.decoder.rank_adaptive_classhead is False"],
    ),
    (
        RANK_RT,
        {"transformer__decoder__num_queries": 7},
        ["model.transformer.decoder.num_queries is 7"],
    ),
]


@pytest.mark.parametrize(("config", "options", "names"), CONFIGS)
def test_a_config_whose_model_cannot_be_built_names_the_key(config, options, names) -> None:
    with refused(*names, error=ValueError):
        tiny(config, **options)


def iou_branch_without_a_loss() -> None:
    model = tiny(DAB, iou_branch=True).train()
    model([image(48, 64, 2, seed=3), image(64, 48, 0, seed=4)])


def criterion(**options) -> SetCriterion:
    return SetCriterion(4, HungarianMatcher(2.0, 5.0, 2.0), {}, **options)


def softmax_of_sigmoids() -> None:
    model = tiny(DAB, criterion__loss_class_type="ce_loss").train()
    model([image(48, 64, 2, seed=3)])


def layer(modules: int, *order: str) -> BaseTransformerLayer:
    attentions = [MultiheadAttention(8, 2) for _ in range(modules)]
    return BaseTransformerLayer(attentions, FFN(8, 16), nn.LayerNorm(8), order)


def attention_without_points() -> None:
    shapes = [(4, 5), (2, 3)]
    MultiScaleDeformableAttention(8, 2)(torch.zeros(1, 1, 8), spatial_shapes=shapes)


def anchor_transformer(**options) -> AnchorDETRTransformer:
    sizes = dict(embed_dim=32, num_encoder_layers=1, num_decoder_layers=1, num_query_pattern=2)
    return AnchorDETRTransformer(**{**sizes, "num_query_position": 4, **options})


@pytest.mark.parametrize(
    ("action", "names"),
    [
        (iou_branch_without_a_loss, ["loss_iou"]),
        (lambda: anchor_transformer(attention_type="softmax"), ["attention_type='RCDA'"]),
        (lambda: anchor_transformer(num_feature_levels=3), ["num_feature_levels=1"]),
        (
            lambda: anchor_transformer(spatial_prior="random"),
            ["spatial_prior", "'learned'", "'grid'", "'random'"],
        ),
        (lambda: criterion(loss_class_type="hinge"), ["loss_class_type", "'hinge'"]),
        (lambda: criterion(gamma=-0.5), ["criterion.gamma", "-0.5"]),
        (lambda: criterion(gamma=math.nan), ["criterion.gamma", "nan"]),
        (lambda: criterion(alpha=1.5), ["criterion.alpha", "1.5"]),
        (
            lambda: criterion(loss_class_type="rank_sort_loss", delta=0.0),
            ["criterion.delta", "0.0"],
        ),
        (lambda: criterion(set_losses={"_enc": "ce_loss"}), ["criterion.set_losses", "'ce_loss'"]),
        (lambda: criterion(set_losses={"dn": "mal_loss"}), ["criterion.set_losses", "'dn'"]),
        (softmax_of_sigmoids, ["criterion.loss_class_type", "'ce_loss'", "no object"]),
        (lambda: criterion(losses=["class", "masks"]), ["['class', 'masks']"]),
        (lambda: HungarianMatcher(0, 0, 0), ["cost_class"]),
        (lambda: HungarianMatcher(cost_class_type="l2"), ["cost_class_type", "'l2'"]),
        (lambda: QueryGroup("_dn", size=5, blocks=2), ["'_dn'", "size 5", "2 blocks"]),
        (lambda: make_stage(depth=18), ["backbone.stages"]),
        (lambda: make_stage(res5_dilation=3), ["backbone.stages"]),
        (lambda: make_stage(deform_on_per_stage=[True] * 4), ["backbone.stages"]),
        (
            lambda: TorchvisionResNet("resnet51", True),
            ["backbone.name", "resnet18", "'resnet51'"],
        ),
        (lambda: timm_parts("efficientvit_m0"), ["[16, 32, 64]"]),
        (lambda: timm_parts("cait_xxs24_224"), ["cait_xxs24_224", "one size"]),
        (lambda: timm_parts("resnet1001"), ["'resnet1001'"]),
        (lambda: layer(1, "self_attention"), ["operation_order"]),
        (lambda: layer(1, "self_attn", "cross_attn"), ["2 modules", "1"]),
        (lambda: MultiScaleDeformableAttention(embed_dim=10, num_heads=4), ["10", "num_heads 4"]),
        (attention_without_points, ["reference_points"]),
    ],
)
def test_a_part_that_cannot_be_built_names_its_argument(request, action, names) -> None:
    assert_refused(request, action, *names, error=ValueError)
