"""``aligndetr.losses`` of Align-DETR's repository: the loss is a (target, weight) function here."""

from detrex.modeling.losses import ia_bce
from detrex.utils.api import unknown_name

__all__ = ["ia_bce"]

__getattr__ = unknown_name(__name__)
