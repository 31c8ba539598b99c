"""Backbones that detectron2 does not bring."""

from detrex.utils.api import unknown_name

from .resnet import BasicStem, ResNet, make_stage
from .timm import TimmBackbone
from .torchvision_resnet import TorchvisionResNet

__all__ = ["BasicStem", "ResNet", "TimmBackbone", "TorchvisionResNet", "make_stage"]

__getattr__ = unknown_name(__name__)
