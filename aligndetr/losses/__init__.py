"""``aligndetr.losses`` of Align-DETR's repository: the loss is a (target, weight) function here."""

from detrex.modeling.losses import ia_bce

__all__ = ["ia_bce"]
