"""Backbones that detectron2 does not have."""

from .resnet import BasicStem, ResNet, make_stage
from .timm import TimmBackbone, timm_parts
from .torchvision_resnet import TorchvisionResNet
from .vit import SimpleFeaturePyramid

__all__ = [
    "BasicStem",
    "ResNet",
    "SimpleFeaturePyramid",
    "TimmBackbone",
    "TorchvisionResNet",
    "make_stage",
    "timm_parts",
]
