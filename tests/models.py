"""Small models built from the shipped configs, and inputs for them."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).resolve().parents[1]
CHANNELS = (16, 32, 48, 64)  # res2..res5 of the narrow backbone
RANK_DETR = "projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py"


def shipped(config: str) -> DictConfig:
    """A shipped config, executed once in a process."""
    return copy.deepcopy(_executed(config))


@functools.cache
def _executed(config: str) -> DictConfig:
    return LazyConfig.load(str(ROOT / config))


def load(config: str, overrides: dict) -> DictConfig:
    """A shipped config with a narrow backbone and the given fields."""
    cfg = shipped(config)
    narrow(cfg.model)
    for key, value in overrides.items():
        OmegaConf.update(cfg, key, value, force_add=True)
    return cfg


def tiny(config: str = RANK_DETR, **overrides) -> torch.nn.Module:
    """The config's model, shrunk; ``overrides`` replace model fields ("__" stands for ".")."""
    model = shipped(config).model
    shrink(model)
    for key, value in overrides.items():
        OmegaConf.update(model, key.replace("__", "."), value, force_add=True)
    torch.manual_seed(0)
    return instantiate(model)


def shrink(model: DictConfig) -> None:
    """A narrow backbone, 1 + 2 layers without dropout, few queries, five classes."""
    narrow(model)
    if "num_encoder_layers" in model.transformer:  # Anchor DETR's, which keeps its 80 classes
        model.transformer.update(num_encoder_layers=1, num_decoder_layers=2, dim_feedforward=32)
        model.transformer.update(num_query_position=5, num_query_pattern=2)
        return
    names = [name for name in ("encoder", "decoder") if name in model.transformer]
    for stack in (model.transformer[name] for name in names):
        for field in [f for f in stack if "drop" in f]:
            stack[field] = 0.0
        stack.update(feedforward_dim=32, num_layers=1)
    model.transformer.decoder.num_layers = 2
    if "num_queries" in model:
        model.num_queries = 10
    if "train_sizes" in model:
        model.train_sizes = []
    if "feedforward_dim" in model.get("neck", {}):  # a hybrid encoder
        model.neck.update(embed_dim=16, feedforward_dim=32)
    if "num_queries_one2one" in model:
        model.update(num_queries_one2one=10, num_queries_one2many=20, k_one2many=2)
        model.transformer.two_stage_num_proposals = 30
    if "num_hybrid_queries" in model:
        model.update(num_hybrid_queries=20, k_hybrid=2)
    model.num_classes = 5


def training_configs() -> list[Path]:
    """Every shipped config of a training run."""
    found = ROOT.glob("projects/*/configs/**/*.py")
    return sorted(path for path in found if path.parent.name != "models")


def image(height: int, width: int, objects: int, seed: int = 0, classes: int = 5) -> dict:
    """A random image with random boxes of at least 10 pixels, in detectron2's format."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(objects, 2, generator=generator) * torch.tensor([width - 12, height - 12])
    room = torch.tensor([width, height]) - corner - 10
    size = 10 + torch.rand(objects, 2, generator=generator) * room
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(torch.cat([corner, corner + size], 1))
    instances.gt_classes = torch.randint(0, classes, (objects,), generator=generator)
    pixels = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    return {"image": pixels, "height": height, "width": width, "instances": instances}


def narrow(model: DictConfig) -> None:
    """A backbone of a few thousand parameters in place of the config's, where one exists."""
    backbone = model.backbone
    if "stem" in backbone:
        model.backbone = narrow_resnet(backbone)
        channels = {f"res{i + 2}": width for i, width in enumerate(CHANNELS)}
    elif "window_size" in backbone:
        backbone.update(embed_dim=12, depths=(2, 2, 2, 2), num_heads=(1, 2, 3, 6))
        backbone.drop_path_rate = 0.0
        channels = {f"p{i}": 12 * 2**i for i in range(4)}
    elif "depths" in backbone and "num_heads" not in backbone:  # ConvNeXt, FocalNet
        wide = dict(dims=(8, 16, 32, 64)) if "dims" in backbone else dict(embed_dim=8)
        backbone.update(depths=(1, 1, 1, 1), drop_path_rate=0.0, **wide)
        channels = {f"p{i}": 8 << i for i in range(4)}
    elif "model_name" in backbone.get("net", {}):
        narrow_vit(backbone)
        return
    elif "global_indices" in backbone:  # a plain ViT with windows
        small = dict(embed_dim=32, depth=2, num_heads=2, drop_path_rate=0.0)
        backbone.update(out_indices=[0, 1], global_indices=[1])
        backbone.model_options.update(small)
        channels = {"p0": 32, "p1": 32}
    elif "dilation" in backbone:  # torchvision's BasicBlock cannot be dilated
        small = ("resnet50", 2048) if backbone.dilation else ("resnet18", 512)
        backbone.name, channels = small[0], {"res5": small[1]}
    elif "hgnetv2" in backbone.get("model_name", ""):
        backbone.model_name = "hgnetv2_b0"
        channels = {f"p{i}": 128 << i for i in backbone.out_indices}
    else:
        return
    if "neck" in model:
        model.neck.input_shapes = {name: ShapeSpec(width) for name, width in channels.items()}
    if "in_channels" in model:
        model.in_channels = list(channels.values())[-1]


def narrow_vit(backbone: DictConfig) -> None:
    """A plain ViT of timm's with a pyramid or an adapter."""
    layers = len(backbone.net.out_indices)
    small = dict(embed_dim=32, depth=max(layers, 2), num_heads=2, drop_path_rate=0.0)
    backbone.net.model_options.update(small)
    backbone.net.out_indices = [0, 1, 2] if layers == 3 else [1]
    if "in_feature" in backbone:  # a pyramid
        backbone.in_feature = "p1"


def narrow_resnet(backbone: DictConfig) -> DictConfig:
    if "detrex" in str(backbone._target_):  # the ResNet with dilation
        from detrex.modeling.backbone import BasicStem, ResNet
        from detrex.modeling.backbone.resnet import BottleneckBlock
    else:
        from detectron2.modeling.backbone import BasicStem, ResNet
        from detectron2.modeling.backbone.resnet import BottleneckBlock
    stages = [
        L(ResNet.make_stage)(
            block_class=BottleneckBlock,
            num_blocks=1,
            stride_per_block=[1 if i == 0 else 2],
            in_channels=CHANNELS[max(i - 1, 0)],
            out_channels=channels,
            bottleneck_channels=channels // 2,
            stride_in_1x1=False,
            norm="FrozenBN",
        )
        for i, channels in enumerate(CHANNELS)
    ]
    return L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=CHANNELS[0], norm="FrozenBN"),
        stages=stages,
        out_features=list(backbone.out_features),
        freeze_at=backbone.freeze_at,
    )
