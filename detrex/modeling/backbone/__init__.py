"""Backbones that detectron2 does not have."""

from .convnext import ConvNeXt
from .focalnet import FocalNet
from .resnet import BasicStem, ResNet, make_stage
from .timm import TimmBackbone, timm_parts
from .torchvision_resnet import TorchvisionResNet
from .vit import SimpleFeaturePyramid
from .windowed_vit import WindowedViT

__all__ = [
    "BasicStem",
    "ConvNeXt",
    "FocalNet",
    "ResNet",
    "SimpleFeaturePyramid",
    "TimmBackbone",
    "TorchvisionResNet",
    "WindowedViT",
    "make_stage",
    "timm_parts",
]
