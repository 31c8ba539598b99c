"""Which images make up which training batch: a function of the seed and the batch's number only."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

SampleKey = tuple[int, int, int]  # epoch, position in the epoch's order, index in the data set


class Share(NamedTuple):
    """One process's samples of a global batch.

    ``number`` counts the run's global batches, ``first`` is the place of the first key in its
    batch, and ``before`` is the sample before it there; of the batch's first sample: the last.
    """

    number: int
    keys: list[SampleKey]
    first: int
    before: SampleKey


def seed_words(*key: int) -> np.ndarray:
    """Hash non-negative integers to (4,) uint32 words, the same on every machine and version."""
    # SeedSequence pads its input with zeros; the length tells (1, 2) from (1, 2, 0).
    return np.random.SeedSequence((len(key), *key)).generate_state(4)


def epoch_order(size: int, seed: int, epoch: int, repeats: np.ndarray | None = None) -> np.ndarray:
    """Return the order of images that one epoch follows, (size,).

    With ``repeats`` (size,), how often each image comes on average, it may be longer: what is left
    of a number above its whole part is the chance that the image comes once more.
    """
    # RandomState: unlike numpy's newer generators, its stream is frozen across versions.
    random = np.random.RandomState(seed_words(seed, epoch))
    if repeats is None:
        return random.permutation(size)
    counts = np.floor(repeats) + (random.random_sample(size) < repeats % 1)
    return random.permutation(np.repeat(np.arange(size), counts.astype(int)))


class GlobalBatches(Sampler[Share]):
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
        repeats: how often each image comes in an epoch, on average, (size,); None: once.
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
        repeats: np.ndarray | None = None,
    ) -> None:
        self.size, self.batch_size, self.seed, self.start = size, batch_size, seed, start
        self.groups = groups if groups is not None else np.zeros(size, bool)
        self.repeats = repeats
        self.share = batch_size // world_size
        self.first = rank * self.share

    def __iter__(self) -> Iterator[Share]:
        batches = itertools.islice(enumerate(self._global_batches()), self.start, None)
        for number, batch in batches:
            keys = batch[self.first : self.first + self.share]
            yield Share(number, keys, self.first, batch[self.first - 1])

    def _global_batches(self) -> Iterator[list[SampleKey]]:
        waiting = defaultdict(list)
        for epoch in itertools.count():
            order = epoch_order(self.size, self.seed, epoch, self.repeats)
            for position, index in enumerate(map(int, order)):  # a list takes 36 bytes an image
                bucket = waiting[self.groups[index]]
                bucket.append((epoch, position, index))
                if len(bucket) == self.batch_size:
                    yield bucket.copy()
                    bucket.clear()
