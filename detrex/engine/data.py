"""The data sets of a config: checked before training starts, and loaded once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from detectron2.config import instantiate
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from omegaconf import DictConfig, OmegaConf

from detrex.data import (
    DatasetInfo,
    apply_custom_dataset,
    check_dataset_files,
    check_num_classes,
    dataset_info,
)
from detrex.data.dataset_info import SPLITS
from detrex.data.workers import guard_workers
from detrex.utils.device import device_kind, pins_memory
from detrex.utils.errors import InputError

from .instantiation import accepts, call_with

logger = logging.getLogger(__name__)


def prepare_data(
    cfg: DictConfig, overrides: Sequence[str], parts: Sequence[str]
) -> DatasetInfo | None:
    """Register custom data sets and check those that are named.

    Args:
        cfg: changed in place for custom data.
        overrides: the command line's "key=value" strings.
        parts: which of "train" and "test" will be read.

    Returns:
        The classes; None if the config reads its data by other means than names.

    Raises:
        InputError: missing files, unusable data, or another number of classes than the model's.
    """
    splits = [split for split, part in SPLITS.items() if part in parts]
    custom = apply_custom_dataset(cfg, overrides, splits)
    names = [OmegaConf.select(cfg, f"dataloader.{part}.dataset.names") for part in parts]
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
        InputError: the loader has no batch size, or a place to start from.
    """
    node = cfg.dataloader.train
    total, start = node.get("total_batch_size"), node.get("start_iteration")
    if total is None:
        raise InputError(
            "dataloader.train has no total_batch_size: give the images of an iteration"
        )
    if start:
        raise InputError(
            f"dataloader.train.start_iteration={start}: leave it out, --resume continues a run"
        )
    return instantiate(node.get("dataset"))


def build_loader(cfg: DictConfig, records: Sequence[dict] | None, start_iteration: int) -> Iterable:
    """Build this process's training loader, positioned behind the iterations that are done.

    ``total_batch_size`` is what one optimizer step sees: it is shared out over processes and
    accumulation steps.

    Raises:
        InputError: the batch cannot be shared out.
    """
    node, steps = cfg.dataloader.train, cfg.train.accumulation_steps
    world, total = comm.get_world_size(), node.total_batch_size
    if steps < 1 or total % (steps * world):
        raise InputError(
            f"dataloader.train.total_batch_size={total} is not a multiple of {world} processes "
            f"x train.accumulation_steps={steps}"
        )
    if steps > 1:
        logger.info("an iteration's %d images go in %d passes of %d", total, steps, total // steps)
    given = {"total_batch_size": total // steps}
    if records is not None:
        given["dataset"] = records
    if accepts(node, "seed") and node.get("seed") is None:
        given["seed"] = cfg.train.seed
    if accepts(node, "pin_memory") and "pin_memory" not in node:
        given["pin_memory"] = pins_memory(device_kind(cfg.train.device))
    if accepts(node, "start_iteration"):
        given["start_iteration"] = start_iteration * steps
    elif start_iteration:
        logger.warning("dataloader.train has no start_iteration: its images come in a new order")
        seed_all_rng(cfg.train.seed + start_iteration)  # else it would begin as the run began
    return guard_workers(call_with(node, **given))


def endless(loader: Iterable[list[dict]]) -> Iterator[list[dict]]:
    """Yield a loader's batches; an exhausted one is started again.

    Raises:
        InputError: it gives none.
    """
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise InputError("the training loader gives no batch")
