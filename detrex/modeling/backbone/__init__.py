"""Backbones that detectron2 does not bring."""

from .resnet import BasicStem, ResNet, make_stage
from .resnet_vd import DeepStem, make_vd_stages
from .timm import TimmBackbone, timm_parts
from .torchvision_resnet import TorchvisionResNet
from .vit import SimpleFeaturePyramid

__all__ = [
    "BasicStem",
    "DeepStem",
    "ResNet",
    "SimpleFeaturePyramid",
    "TimmBackbone",
    "TorchvisionResNet",
    "make_stage",
    "make_vd_stages",
    "timm_parts",
]
