from collections.abc import Mapping

from detrex.utils.errors import InputError

from .classification import (
    BASIC_LOSSES,
    ClassLoss,
    Quality,
    ia_bce,
    joint_quality,
)
from .quality_aware import QUALITY_AWARE_LOSSES
from .rank_sort import RankSortLoss

CLASS_LOSSES = BASIC_LOSSES | QUALITY_AWARE_LOSSES
RANK_LOSSES = {"rank_sort_loss": False, "bucketed_rank_sort_loss": True}  # name: bucketed
CLASS_LOSS_NAMES = sorted([*CLASS_LOSSES, *RANK_LOSSES])


def build_class_loss(
    name: str, alpha: float, gamma: float, delta: float = 0.5
) -> ClassLoss | RankSortLoss:
    """The class loss of that name in ``CLASS_LOSS_NAMES``; ``delta`` is for those that rank.

    Raises:
        InputError: ``alpha`` outside [0, 1], negative ``gamma``, ``delta`` that is not above 0.
    """
    if name in RANK_LOSSES:
        return RankSortLoss(delta, RANK_LOSSES[name])
    if not 0 <= alpha <= 1:
        raise InputError(f"criterion.alpha must be in [0, 1], got {alpha}")
    if not 0 <= gamma < float("inf"):
        raise InputError(f"criterion.gamma must be at least 0, got {gamma}")
    return ClassLoss(*CLASS_LOSSES[name], alpha, gamma)


def build_set_losses(
    names: Mapping[str, str], alpha: float, gamma: float, delta: float
) -> dict[str, ClassLoss | RankSortLoss]:
    """The class losses of sets by name, such as {"_enc": "focal_loss"}.

    Raises:
        InputError: for another loss than those of ``CLASS_LOSS_NAMES``, or a set without "_".
    """
    for name, loss in names.items():
        if loss not in CLASS_LOSS_NAMES or not name.startswith("_"):
            raise InputError(
                'criterion.set_losses maps sets, such as "_enc" or "_dn", to losses of'
                f" {CLASS_LOSS_NAMES}, got {name!r}: {loss!r}"
            )
    return {name: build_class_loss(loss, alpha, gamma, delta) for name, loss in names.items()}


__all__ = [
    "CLASS_LOSSES",
    "CLASS_LOSS_NAMES",
    "ClassLoss",
    "Quality",
    "RankSortLoss",
    "build_class_loss",
    "build_set_losses",
    "ia_bce",
    "joint_quality",
]
