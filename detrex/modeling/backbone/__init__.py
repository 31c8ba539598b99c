"""Backbones that detectron2 does not bring."""

from detrex.utils.api import unknown_name

from .timm import TimmBackbone

__all__ = ["TimmBackbone"]

__getattr__ = unknown_name(__name__)
