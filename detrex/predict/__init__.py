"""Trained detectors as files for other programs."""

from .graph import DetectorGraph
from .hub import Pretrained, portable_config
from .writing import trace, write_onnx, write_program

__all__ = [
    "DetectorGraph",
    "Pretrained",
    "portable_config",
    "trace",
    "write_onnx",
    "write_program",
]
