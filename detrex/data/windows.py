"""Windows of a run: which augmentations happen from one iteration to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ClassVar

from omegaconf import DictConfig

from detrex.config.instantiation import accepts, target_of
from detrex.config.lengths import dict_nodes
from detrex.utils.errors import InputError

from .multi_image import PairTransform


class Window:
    """Augmentations of iterations ``start`` to ``stop - 1``.

    Args:
        start: a length in a config: iterations, epochs ("4ep") or a fraction of the run.
        stop: as ``start``; None: the end of the run.
        transforms: of one image, before those that every image gets: torchvision.transforms.v2's,
            or ``Mosaic``, which takes further images of the data set.
        pairs: of an image and the one before it in its batch, after all others.
    """

    lengths: ClassVar = ("start", "stop")

    def __init__(
        self,
        start: int = 0,
        stop: int | None = None,
        transforms: Sequence[Callable[[dict], dict]] = (),
        pairs: Sequence[PairTransform] = (),
    ) -> None:
        self.start, self.stop = start, stop
        self.transforms, self.pairs = list(transforms), list(pairs)

    def holds(self, iteration: int) -> bool:
        """Whether the iteration is inside."""
        return self.start <= iteration and (self.stop is None or iteration < self.stop)


def stages(windows: Sequence[Window], max_iter: int) -> list[tuple[int, int]]:
    """First iteration of each stage of a run and the first after it: windows, and what is between
    them."""
    borders = {0, max_iter, *(w.start for w in windows), *(w.stop or 0 for w in windows)}
    return list(pairwise(sorted(borders)))


def check_windows(cfg: DictConfig) -> None:
    """Check the windows of a config whose lengths are in iterations.

    Raises:
        InputError: a window that ends before it starts, reaches beyond the run, or starts before
            the one before it has ended; or a loader that does not count iterations.
    """
    end, max_iter = 0, cfg.train.max_iter
    for key, node in dict_nodes(cfg.dataloader.train, "dataloader.train"):
        if target_of(node) is not Window:
            continue
        if not accepts(cfg.dataloader.train, "passes"):
            raise InputError(f"{key}: windows need dataloader.train._target_=build_train_loader")
        start, stop = node.get("start", 0), node.get("stop")
        stop = max(start, max_iter) if stop is None else stop
        if stop > max_iter and not cfg.train.fast_dev_run.enabled:
            raise InputError(
                f"{key}: iterations {start} to {stop} reach beyond the run "
                f"(train.max_iter={max_iter}): give fractions of it, e.g. start=0.1 stop=0.9"
            )
        if stop < start:
            raise InputError(f"{key}: stop={stop} comes before start={start} (iterations)")
        if start < end:
            raise InputError(
                f"{key}: start={start} is inside the window before it, which stops at {end} "
                "(iterations): put windows in their order, without an overlap"
            )
        end = stop
