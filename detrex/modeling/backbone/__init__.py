"""Backbones that detectron2 does not have."""

from .adapter import SpatialAdapter
from .convnext import ConvNeXt
from .eva import EVAViT
from .focalnet import FocalNet
from .internimage import InternImage
from .resnet import BasicStem, ResNet, make_stage
from .timm import TimmBackbone, adapter_parts, timm_parts
from .torchvision_resnet import TorchvisionResNet
from .vit import SimpleFeaturePyramid

__all__ = [
    "BasicStem",
    "ConvNeXt",
    "EVAViT",
    "FocalNet",
    "InternImage",
    "ResNet",
    "SimpleFeaturePyramid",
    "SpatialAdapter",
    "TimmBackbone",
    "TorchvisionResNet",
    "adapter_parts",
    "make_stage",
    "timm_parts",
]
