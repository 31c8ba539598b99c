from .classification import CLASS_LOSSES, ClassLoss, Quality, focal, giou_focal, weighted_bce

__all__ = ["CLASS_LOSSES", "ClassLoss", "Quality", "focal", "giou_focal", "weighted_bce"]
