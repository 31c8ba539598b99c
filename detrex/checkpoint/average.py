"""The mean of several checkpoints of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from detrex.utils.errors import InputError


def average(
    checkpoints: Sequence[Mapping[str, Tensor]], weights: Sequence[float] | None = None
) -> dict[str, Tensor]:
    """Return the weighted mean of state dicts of one model.

    Numbers that are no floats, such as counters, are those of the checkpoint of highest weight,
    the first of equals.

    Args:
        checkpoints: the state dicts.
        weights: a share of each, divided by their sum; None: equal shares.

    Raises:
        InputError: names or shapes that differ, weights of another number than the checkpoints, or
            without a positive sum.
    """
    weights = [1.0] * len(checkpoints) if weights is None else list(weights)
    if len(weights) != len(checkpoints) or min(weights) < 0 or not sum(weights) > 0:
        raise InputError(
            f"weights: {len(checkpoints)} numbers of at least 0 are needed, of which one is above"
            f" 0, got {weights}"
        )
    shares = [weight / sum(weights) for weight in weights]
    main = checkpoints[shares.index(max(shares))]
    for number, other in enumerate(checkpoints):
        names = sorted(other.keys() ^ main.keys())
        names += [n for n in other.keys() & main.keys() if other[n].shape != main[n].shape]
        if names:
            raise InputError(f"checkpoint {number + 1} differs from the others in {names[0]}")

    def mean(name: str, value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value.clone()
        pairs = zip(shares, checkpoints, strict=True)
        return sum(share * other[name].double() for share, other in pairs).to(value.dtype)

    return {name: mean(name, value) for name, value in main.items()}
