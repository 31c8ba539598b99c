"""The training loader: endless, resumable, and the same for any number of workers and processes."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from detectron2.data import DatasetFromList
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from detrex.utils.errors import InputError, StorageError

from .records import JoinedRecords, Records, repeat_factors
from .sampler import GlobalBatches, Share, seed_words
from .workers import guard_workers

logger = logging.getLogger(__name__)


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """In ``with``, random numbers of Python, numpy and torch's CPU depend only on ``key``."""
    saved = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = seed_words(*key)
    random.seed(words.tobytes())
    np.random.seed(words)
    # Not torch.manual_seed: it would reseed every accelerator, too, and nothing would restore them.
    torch.default_generator.manual_seed(int.from_bytes(words[:2].tobytes(), "little"))
    try:
        yield
    finally:
        random.setstate(saved[0])
        np.random.set_state(saved[1])
        torch.set_rng_state(saved[2])


class MappedBatches(Dataset):
    """Map-style data set whose index is one process's share of a batch.

    An item is ``(batch, broken)``, where ``broken`` lists ``(file name, reason)`` of images that
    others replace. For an unusable image the ``InputError`` is returned in place of the batch: a
    DataLoader worker would wrap a raised one in a traceback of many lines.

    A mapper with ``windows`` gets a function that reads a random image of the data set
    (``further``), and is told the iteration before each batch (``iter``).
    """

    def __init__(
        self,
        dataset: Sequence[dict],
        mapper: Callable,
        seed: int,
        skip_broken: bool,
        passes: int = 1,
    ) -> None:
        self.dataset, self.mapper = dataset, mapper
        self.seed, self.skip_broken, self.passes = seed, skip_broken, passes
        self.broken: list[tuple[str, str]] = []
        self.has_windows = bool(getattr(mapper, "windows", ()))
        if self.has_windows:
            mapper.further = self._further

    def __getitem__(self, share: Share) -> tuple:
        self.broken = []
        try:
            batch = self._batch(share)
        except InputError as error:
            batch = error
        return batch, self.broken

    def _batch(self, share: Share) -> list[dict]:
        weights: list[float | None] = []
        if self.has_windows:
            self.mapper.iter = share.number // self.passes
            with seeded(self.seed, share.number, 0, 0):
                weights = [transform.draw() for transform in self.mapper.window.pairs]
        samples = [self._sample(*key) for key in share.keys]
        if any(weight is not None for weight in weights):
            samples = self._paired(share, samples, weights)
        return samples

    def _paired(self, share: Share, samples: list[dict], weights: list[float | None]) -> list[dict]:
        """Mix each sample with the one before it; every process draws the same for a batch."""
        is_whole = share.before == share.keys[-1]
        others = [samples[-1] if is_whole else self._sample(*share.before), *samples[:-1]]
        drawn = zip(self.mapper.window.pairs, weights, strict=True)
        for k, (transform, weight) in enumerate(drawn, start=1):
            for i, other in enumerate(others if weight is not None else ()):
                with seeded(self.seed, share.number, share.first + i, k):
                    samples[i] = transform(samples[i], other, weight)
        return samples

    def _sample(self, epoch: int, position: int, index: int) -> dict:
        def mapped(record: dict) -> dict | None:
            with seeded(self.seed, epoch, position):
                return self.mapper(record)

        return self._usable(index, mapped)

    def _further(self, prepare: Callable[[dict], dict]) -> dict:
        """A random image, drawn from the random numbers of the sample that asks for it."""
        index = int(np.random.randint(len(self.dataset)))
        return self._usable(index, lambda record: prepare(self.mapper.load(dict(record))))

    def _usable(self, index: int, read: Callable[[dict], dict | None]) -> dict:
        """Read the image of this index, or the next one that can be used."""
        for step in range(len(self.dataset)):
            record = self.dataset[(index + step) % len(self.dataset)]
            name = str(record.get("file_name", f"image {index + step}"))
            try:
                sample = read(record)
                if sample is None:
                    raise InputError(f"{name}: the mapper returned no sample")
                return sample
            except InputError as error:
                if not self.skip_broken or isinstance(error, StorageError):
                    raise
                self.broken.append((name, str(error)))
        raise InputError(f"no usable image in the training set; the last one: {self.broken[-1][1]}")


class TrainLoader:
    """Endless iterable over this process's share of every global batch.

    Attributes:
        skipped: file names of the broken images that this process has met.
    """

    def __init__(
        self, samples: MappedBatches, batches: GlobalBatches, num_workers: int, pin_memory: bool
    ) -> None:
        self.samples, self.batches, self.num_workers = samples, batches, num_workers
        self.pin_memory = pin_memory
        self.skipped: set[str] = set()

    def __iter__(self) -> Iterator[list[dict]]:
        """Yield batches from ``start_iteration`` on.

        Raises:
            InputError: at an image that cannot be used and is not skipped.
        """
        loader = DataLoader(
            self.samples,
            batch_size=None,  # the sampler yields whole batches
            sampler=self.batches,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            collate_fn=_identity,
            # Its own generator: the default one would draw from the model's random stream.
            generator=torch.Generator(),
        )
        for batch, broken in guard_workers(loader):
            self._count(broken)
            if isinstance(batch, InputError):
                raise batch
            yield batch

    def _count(self, broken: list[tuple[str, str]]) -> None:
        for name, reason in broken:
            if name not in self.skipped:
                self.skipped.add(name)
                logger.warning(
                    "%d broken images so far, the next one takes its place: %s",
                    len(self.skipped),
                    reason,
                )


def build_train_loader(
    dataset: Sequence[dict],
    mapper: Callable[[dict], dict | None],
    total_batch_size: int,
    num_workers: int = 0,
    aspect_ratio_grouping: bool = True,
    seed: int = 0,
    start_iteration: int = 0,
    skip_broken: bool = False,
    pin_memory: bool = False,
    passes: int = 1,
    repeat_threshold: float = 0.0,
) -> TrainLoader:
    """Build the training loader of this process.

    The order of images and the randomness of their augmentation depend only on the seed, the epoch
    and the sample's position in it; never on workers, processes or history.

    Args:
        dataset: detectron2 dataset dicts.
        mapper: dataset dict -> sample. None, or an ``InputError``, marks the image as broken.
        total_batch_size: images per iteration over all processes.
        num_workers: loading processes of this process.
        aspect_ratio_grouping: a global batch holds only wide (width > height) or only other
            images, which saves padding.
        seed: non-negative, and the same in every process.
        start_iteration: iterations that are done; the loader goes on after them.
        skip_broken: replace a broken image by the next one of the data set, and count it.
        pin_memory: put images in pinned memory, from which a GPU copies while it computes.
        passes: batches of an iteration (``train.accumulation_steps``).
        repeat_threshold: t of repeat-factor sampling (LVIS, Gupta et al. 2019, appendix B.2): in an
            epoch an image comes max(1, sqrt(t / f)) times on average, where f is the share of
            images with the rarest of its classes. 0: once. A length of one epoch stays that of
            every image once.

    Raises:
        InputError: an empty data set, a batch size that is not a positive multiple of the number
            of processes, a negative seed, or images without a size where sizes are needed.
    """
    world_size = comm.get_world_size()
    if not len(dataset):
        raise InputError("dataloader.train.dataset is empty: there is nothing to train on")
    if total_batch_size < 1 or total_batch_size % world_size:
        raise InputError(
            f"dataloader.train.total_batch_size={total_batch_size} is not a positive multiple of "
            f"the {world_size} training processes"
        )
    if seed < 0:
        raise InputError(f"dataloader.train.seed={seed} is negative: give 0 or a positive number")
    if not 0 <= repeat_threshold <= 1:
        raise InputError(
            f"dataloader.train.repeat_threshold={repeat_threshold}: give a share of images, 0 to 1"
        )
    batches = GlobalBatches(
        len(dataset),
        total_batch_size,
        seed,
        start_iteration,
        _is_wide(dataset) if aspect_ratio_grouping else None,
        comm.get_rank(),
        world_size,
        _repeats(dataset, repeat_threshold),
    )
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)  # one buffer, shared by the workers
    samples = MappedBatches(dataset, mapper, seed, skip_broken, passes)
    return TrainLoader(samples, batches, num_workers, pin_memory)


def _is_wide(dataset: Sequence[dict]) -> Sequence[bool]:
    if isinstance(dataset, Records | JoinedRecords):
        return dataset.wide()
    try:
        return [record["width"] > record["height"] for record in dataset]
    except KeyError as error:
        raise InputError(
            f"an image of the training set has no {error}: aspect_ratio_grouping needs it; "
            "set dataloader.train.aspect_ratio_grouping=False"
        ) from error


def _repeats(dataset: Sequence[dict], threshold: float) -> np.ndarray | None:
    """Return how often each image comes in an epoch, (N,); None: once."""
    weights = dataset.repeats() if isinstance(dataset, JoinedRecords) else None
    if not threshold:
        return weights
    if isinstance(dataset, Records | JoinedRecords):
        factors = repeat_factors(dataset, threshold)
    else:
        by_frequency = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
        factors = by_frequency(dataset, threshold).double().numpy()
    return factors if weights is None else factors * weights


def _identity(batch: list) -> list:
    return batch
