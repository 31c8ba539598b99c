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
from .windowed_vit import WindowedViT

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
    "WindowedViT",
    "adapter_parts",
    "make_stage",
    "timm_parts",
]
