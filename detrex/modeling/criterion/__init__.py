from .criterion import ENCODER, Predictions, SetCriterion, class_loss_sum

__all__ = ["ENCODER", "Predictions", "SetCriterion", "class_loss_sum"]
