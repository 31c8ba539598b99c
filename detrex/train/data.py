"""A config's data: checked before training starts, read, and loaded."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from detectron2.config import instantiate
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from omegaconf import DictConfig, OmegaConf

from detrex.config.instantiation import accepts, call_with
from detrex.data import (
    DatasetInfo,
    apply_custom_dataset,
    check_dataset_files,
    check_num_classes,
)
from detrex.data.dataset_info import SPLITS, dataset_info
from detrex.data.workers import guard_workers
from detrex.utils.device import device_kind, pins_memory
from detrex.utils.errors import InputError

logger = logging.getLogger(__name__)


def prepare_data(
    cfg: DictConfig, overrides: Sequence[str], loaders: Sequence[str]
) -> DatasetInfo | None:
    """Register custom data sets, and check data sets that the config names.

    Args:
        cfg: changed in place for custom data.
        overrides: the command line's "key=value" strings.
        loaders: which of "train" and "test" the run needs.

    Returns:
        The classes; None if the loaders do not name their data sets.

    Raises:
        InputError: missing files, unusable data, or another number of classes than the model's.
    """
    splits = [split for split, loader in SPLITS.items() if loader in loaders]
    custom = apply_custom_dataset(cfg, overrides, splits)
    names = [OmegaConf.select(cfg, f"dataloader.{loader}.dataset.names") for loader in loaders]
    if custom is not None or not all(names):
        return custom
    for name in names:
        check_dataset_files(name)
    info = dataset_info(names[0])
    check_num_classes(cfg, info)
    return info


def read_train_set(cfg: DictConfig) -> Sequence[dict] | None:
    """Return the training set's records; None if the loader makes its own.

    Raises:
        InputError: ``dataloader.train`` lacks a batch size, or has a ``start_iteration``.
    """
    node = cfg.dataloader.train
    total, start = node.get("total_batch_size"), node.get("start_iteration")
    if total is None:
        raise InputError(
            "dataloader.train has no total_batch_size: give the number of images of an iteration"
        )
    if start:
        raise InputError(
            f"dataloader.train.start_iteration={start}: leave it out, --resume continues a run"
        )
    return instantiate(node.get("dataset"))


def build_loader(cfg: DictConfig, records: Sequence[dict] | None, start_iteration: int) -> Iterable:
    """Build this process's training loader, which begins with the images of ``start_iteration``.

    The images of an optimizer step, ``total_batch_size``, are divided among processes and
    accumulation steps.

    Raises:
        InputError: they cannot be divided evenly.
    """
    node, steps = cfg.dataloader.train, cfg.train.accumulation_steps
    world, total = comm.get_world_size(), node.total_batch_size
    if total % (steps * world):
        raise InputError(
            f"dataloader.train.total_batch_size={total} is not a multiple of {world} processes "
            f"x train.accumulation_steps={steps}"
        )
    if steps > 1:
        logger.info("an iteration's %d images go in %d passes of %d", total, steps, total // steps)
    arguments = {"total_batch_size": total // steps}
    if records is not None:
        arguments["dataset"] = records
    if accepts(node, "seed") and node.get("seed") is None:
        arguments["seed"] = cfg.train.seed
    if accepts(node, "pin_memory") and "pin_memory" not in node:
        arguments["pin_memory"] = pins_memory(device_kind(cfg.train.device))
    if accepts(node, "passes"):
        arguments["passes"] = steps
    if accepts(node, "start_iteration"):
        arguments["start_iteration"] = start_iteration * steps
    elif start_iteration:
        logger.warning("dataloader.train has no start_iteration: its images come in a new order")
        seed_all_rng(cfg.train.seed + start_iteration)  # else it would repeat the run's beginning
    return guard_workers(call_with(node, **arguments))


def endless(loader: Iterable[list[dict]]) -> Iterator[list[dict]]:
    """Yield a loader's batches; start it again when it ends.

    Raises:
        InputError: it yields none.
    """
    while True:
        batch = None
        for batch in loader:
            yield batch
        if batch is None:
            raise InputError("dataloader.train yields no batch")
