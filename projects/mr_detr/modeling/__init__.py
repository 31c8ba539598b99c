from .criterion import MrDETRCriterion
from .layers import RoutedAttention, RoutedDecoder, RoutedFFN, RoutedLayer
from .mr_detr import MrDETR

__all__ = [
    "MrDETR",
    "MrDETRCriterion",
    "RoutedAttention",
    "RoutedDecoder",
    "RoutedFFN",
    "RoutedLayer",
]
