"""The learning rate for another number of images an iteration than it was chosen for."""

from __future__ import annotations

import logging

from omegaconf import DictConfig

from detrex.utils.errors import InputError

logger = logging.getLogger(__name__)
REFERENCE_BATCH = "optimizer.reference_batch_size"  # no argument of the optimizer itself


def scale_learning_rate(cfg: DictConfig) -> None:
    """Scale ``optimizer.lr`` in proportion to the batch, in place, and say so in the log.

    Without ``optimizer.reference_batch_size``, which is removed, the rate stays.

    Raises:
        InputError: the optimizer has no ``lr`` to scale.
    """
    reference = cfg.optimizer.pop("reference_batch_size", None)
    if reference is None:
        return
    rate, batch = cfg.optimizer.get("lr"), cfg.dataloader.train.total_batch_size
    if rate is None:
        raise InputError(f"{REFERENCE_BATCH}={reference} scales optimizer.lr, which is not set")
    cfg.optimizer.lr = rate * batch / reference
    logger.info(
        "learning rate %.4g: optimizer.lr=%.4g is for %d images an iteration, this run has %d",
        *(cfg.optimizer.lr, rate, reference, batch),
    )
