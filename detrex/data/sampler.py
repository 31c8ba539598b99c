"""Which images make up which training batch: a function of the seed and the batch's number only."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

SampleKey = tuple[int, int, int]  # epoch, position in the epoch's order, index in the data set


def seed_words(*key: int) -> np.ndarray:
    """Hash non-negative integers to (4,) uint32 words, the same on every machine and version."""
    # SeedSequence pads its input with zeros; the length tells (1, 2) from (1, 2, 0).
    return np.random.SeedSequence((len(key), *key)).generate_state(4)


def epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation of ``range(size)`` that one epoch follows, (size,)."""
    # RandomState: unlike numpy's newer generators, its stream is frozen across versions.
    return np.random.RandomState(seed_words(seed, epoch)).permutation(size)


class GlobalBatches(Sampler[list[SampleKey]]):
    """Endless batches, the same ones for any number of processes.

    The epochs' permutations form one endless stream of samples. A global batch is the next
    ``batch_size`` samples of one group; samples of a group that has not filled up wait, also across
    epochs, so none is lost. Of every global batch, rank r of R takes the r-th of R equal slices.

    Args:
        size: images in the data set.
        batch_size: images in a global batch, over all processes.
        seed: decides the order.
        start: global batches to skip; only indices are replayed, no image is read.
        groups: one label per image; a batch never mixes labels. None means one group.
        rank: of this process.
        world_size: how many processes there are; they divide ``batch_size`` evenly.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        groups: Sequence | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.size, self.batch_size, self.seed, self.start = size, batch_size, seed, start
        self.groups = groups if groups is not None else [0] * size
        share = batch_size // world_size
        self.slice = slice(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for batch in itertools.islice(self._global_batches(), self.start, None):
            yield batch[self.slice]

    def _global_batches(self) -> Iterator[list[SampleKey]]:
        waiting = defaultdict(list)
        for epoch in itertools.count():
            for position, index in enumerate(epoch_order(self.size, self.seed, epoch).tolist()):
                bucket = waiting[self.groups[index]]
                bucket.append((epoch, position, index))
                if len(bucket) == self.batch_size:
                    yield bucket.copy()
                    bucket.clear()
