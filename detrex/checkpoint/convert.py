"""Checkpoints of the methods' official repositories, and ImageNet ResNets, under our names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from detectron2.data import MetadataCatalog
from torch import Tensor

from detrex.utils.errors import InputError

from . import d_fine, lw_detr, rt_detr
from .classes import CLASS_ROWS
from .layouts import (
    D_FINE,
    D_FINE_TRANSFORMERS,
    HGNETV2,
    LAYOUTS,
    LW_DETR,
    LW_DETR_TRANSFORMERS,
    NAMES,
    RESNET,
    RT_DETR,
    RT_DETR_REPOSITORY,
    Layout,
    Rules,
)

_MARKS = {  # the first one counts
    d_fine.MARK: D_FINE,
    d_fine.TRANSFORMERS_MARK: D_FINE_TRANSFORMERS,
    rt_detr.MARK: RT_DETR,
    lw_detr.MARK: LW_DETR,
    lw_detr.TRANSFORMERS_MARK: LW_DETR_TRANSFORMERS,
    rt_detr.REPOSITORY_MARK: RT_DETR_REPOSITORY,
    d_fine.BACKBONE_MARK: HGNETV2,
}
_BY_RULES = {
    RT_DETR: rt_detr.from_transformers,
    RT_DETR_REPOSITORY: rt_detr.from_repository,
    D_FINE: d_fine.from_repository,
    D_FINE_TRANSFORMERS: d_fine.from_library,
    LW_DETR: lw_detr.from_repository,
    LW_DETR_TRANSFORMERS: lw_detr.from_library,
    HGNETV2: d_fine.from_imagenet,
}
COCO_IDS = 91  # the official models have a row for every number up to COCO's largest category id
_RESNET_RULES = [
    (r"^(conv1|bn1)\.", r"stem.\1."),
    *((rf"^layer{i}\.", f"res{i + 1}.") for i in range(1, 5)),
    (r"\bbn(\d)\.", r"conv\1.norm."),
    (r"\bdownsample\.0\.", "shortcut."),
    (r"\bdownsample\.1\.", "shortcut.norm."),
]


def detect_layout(weights: Mapping[str, Tensor]) -> str:
    """Return the name, one of ``NAMES``, of a state dict's layout.

    Raises:
        InputError: another layout, or already this toolbox's.
    """
    weights = _unwrapped(weights)
    if any(".attentions.0." in name for name in weights):
        raise InputError(
            "these are this toolbox's and detrex's names already: give the file to a config as"
            " train.init_checkpoint"
        )
    for mark, name in _MARKS.items():
        if mark in weights:
            return name
    if "layer1.0.conv1.weight" in weights:
        return RESNET
    modules = {name[: dot.start()] for name in weights for dot in re.finditer(r"\.|$", name)}
    for name, layout in LAYOUTS.items():
        if modules.issuperset(layout.marks):
            return name
    first = ", ".join(list(weights)[:3])
    raise InputError(f"no layout among {', '.join(NAMES)} has names like these: {first}, ...")


def _unwrapped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("module."): value for name, value in weights.items()}


def convert(
    weights: Mapping[str, Tensor], layout_name: str, torchvision_backbone: bool = False
) -> dict[str, Tensor]:
    """Return a state dict under our names, with one row per COCO class instead of one per COCO id.

    Of class heads and label embeddings with 91 rows (ids 0 to 90), and maybe one for "no object"
    or "no label", the rows of COCO's 80 ids remain, in their order.

    Args:
        weights: the model's state dict in an official checkpoint, with or without ``module.``.
        layout_name: one of ``NAMES``.
        torchvision_backbone: the model has a ``TorchvisionResNet`` (DC5), not detectron2's ResNet.

    Raises:
        InputError: names that the layout does not have; lists them.
    """
    weights = _unwrapped(weights)
    if layout_name in _BY_RULES:
        converted = _BY_RULES[layout_name](weights)
        unknown = ("model.", "encoder.", "decoder.")
        _refuse([name for name in converted if name.startswith(unknown)], layout_name)
        if layout_name in (LW_DETR, LW_DETR_TRANSFORMERS):
            plain = Layout((), {})
            return {name: _coco_rows(name, value, plain, 0) for name, value in converted.items()}
        return converted
    if layout_name == RESNET and rt_detr.VD_MARK in weights:
        return rt_detr.from_timm(weights)
    if layout_name == RESNET:
        body = {f"backbone.0.body.{n}": w for n, w in weights.items() if not n.startswith("fc.")}
        return _backbone(body, torchvision_backbone)
    layout = LAYOUTS[layout_name]
    converted = _backbone(weights, torchvision_backbone)
    rest = {n: w for n, w in weights.items() if not n.startswith("backbone.")}
    rules = {**layout.rules, **(_neck(rest) if "input_proj" not in layout.rules else {})}
    layers = 1 + max(_numbers(rest, r"transformer\.decoder\.layers\.(\d+)\."), default=-1)
    unknown = []
    for name, value in rest.items():
        ours = _renamed(name, rules)
        converted |= {new.format(layers=layers): value for new in ours}
        unknown += [] if ours else [name]
    _refuse(unknown, layout_name)
    return {name: _coco_rows(name, value, layout, layers) for name, value in converted.items()}


def _backbone(weights: Mapping[str, Tensor], torchvision_names: bool) -> dict[str, Tensor]:
    """Return the weights under ``backbone.0.body.`` (DINO's Swin: ``backbone.0.``, Relation-DETR:
    ``backbone.``) by our names."""
    backbone = {}
    for name, value in weights.items():
        match = re.fullmatch(r"backbone\.(?:0\.)?(?:body\.)?(.+)", name)
        if match is None or name.endswith("num_batches_tracked"):
            continue
        ours = match[1]
        if re.match(r"conv1|bn1|layer\d", ours):  # a ResNet
            ours = f"body.{ours}" if torchvision_names else rt_detr.renamed(ours, _RESNET_RULES)
        backbone[f"backbone.{ours}"] = value
    return backbone


def _neck(weights: Mapping[str, Tensor]) -> Rules:
    """Return the neck's rules: the backbone's levels have 1x1 convolutions, the extra ones 3x3."""
    levels = sorted(_numbers(weights, r"input_proj\.(\d+)\."))
    kernels = {i: weights.get(f"input_proj.{i}.0.weight") for i in levels}
    plain = sum(k is not None and k.shape[-1] == 1 for k in kernels.values())
    rules = {}
    for i in kernels:
        ours = f"neck.convs.{i}" if i < plain else f"neck.extra_convs.{i - plain}"
        rules |= {f"input_proj.{i}.0": (f"{ours}.conv",), f"input_proj.{i}.1": (f"{ours}.norm",)}
    return rules


def _numbers(names: Iterable[str], pattern: str) -> set[int]:
    return {int(match[1]) for name in names if (match := re.match(pattern, name))}


def _renamed(name: str, rules: Rules) -> list[str]:
    """Return our names of a parameter, by the rule of its innermost module that has one."""
    modules = name.split(".")
    for end in range(len(modules), 0, -1):
        module, rest = ".".join(modules[:end]), modules[end:]
        if module in rules:
            return [".".join([ours, *rest]) for ours in rules[module]]
        number = re.search(r"(?<=layers\.)\d+", module)
        if number and (ours := rules.get(module.replace(f".{number[0]}.", ".#.", 1))):
            return [".".join([new.replace("#", number[0]), *rest]) for new in ours]
    return []


def _refuse(unknown: list[str], layout_name: str) -> None:
    if unknown:
        more = f", and {len(unknown) - 20} more" if len(unknown) > 20 else ""
        raise InputError(
            f"{len(unknown)} names are not in the layout of {layout_name}:"
            f" {', '.join(unknown[:20])}{more}"
        )


def _coco_rows(name: str, value: Tensor, layout: Layout, layers: int) -> Tensor:
    if not CLASS_ROWS.search(name) or len(value) not in (COCO_IDS, COCO_IDS + 1):
        return value
    ids = sorted(MetadataCatalog.get("coco_2017_train").thing_dataset_id_to_contiguous_id)
    if layout.class_agnostic_proposals and f"class_embed.{layers}." in name:
        ids[0] = 0  # "an object" was learned as class 0, which is no COCO id
    elif len(value) > COCO_IDS and (layout.spare_label or name != "label_enc.weight"):
        # DINO's 92nd label is dropped: it stands for none
        ids.append(COCO_IDS)
    return value[torch.tensor(ids)]
