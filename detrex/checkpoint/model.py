"""A config's model: built, and with the weights of a checkpoint."""

from __future__ import annotations

import logging

from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import nn

from detrex.config.instantiation import is_about_arguments
from detrex.modeling.performance import apply_performance
from detrex.utils.errors import InputError

from .loading import load_weights

logger = logging.getLogger(__name__)


def build_model(cfg: DictConfig) -> nn.Module:
    """Build the config's model on the CPU, with what ``train`` says about speed and memory.

    Raises:
        InputError: arguments that the model does not take.
    """
    try:
        model = instantiate(cfg.model)
    except (TypeError, ValueError) as error:
        if not is_about_arguments(error):
            raise
        raise InputError(f"the config's model cannot be built: {error}") from error
    apply_performance(cfg.train, model)
    return model


def trained_model(
    cfg: DictConfig, checkpoint: str, content: dict, allow_partial: bool = False
) -> nn.Module:
    """Build the config's model on the CPU with exactly the weights of a checkpoint.

    The averaged weights are taken where the config says so and the file has them.

    Args:
        cfg: config of the model.
        checkpoint: its file, for messages.
        content: of ``read_checkpoint``.
        allow_partial: take a checkpoint that does not fit.

    Raises:
        InputError: the checkpoint does not fit.
    """
    model, ema = build_model(cfg), cfg.train.model_ema
    averaged, strict = ema.enabled and ema.use_ema_weights_for_eval_only, not allow_partial
    load_weights(model, checkpoint, strict=strict, averaged=averaged, content=content)
    if "ema_state" in content and not averaged:
        logger.info(
            "%s has averaged weights too: train.model_ema.enabled=true "
            "train.model_ema.use_ema_weights_for_eval_only=true takes those",
            checkpoint,
        )
    return model
