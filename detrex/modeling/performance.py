"""Keys under ``train`` that change a run's speed and memory, and its numbers by rounding only."""

from __future__ import annotations

import logging
import os

import torch
from omegaconf import DictConfig
from torch import nn

from detrex.layers import TransformerLayerSequence
from detrex.utils.device import device_kind
from detrex.utils.errors import InputError

logger = logging.getLogger(__name__)
_PRECISIONS = ("highest", "high", "medium")


def apply_performance(train: DictConfig, model: nn.Module) -> None:
    """Apply ``channels_last``, ``float32_matmul_precision``, ``cudnn_benchmark``,
    ``deterministic``, ``activation_checkpointing`` and ``compile``; parameters keep their names.

    Args:
        train: the config's ``train``.
        model: changed in place.

    Raises:
        InputError: an unknown precision, or a model without layers to checkpoint or to compile.
    """
    if train.float32_matmul_precision not in _PRECISIONS:
        raise InputError(
            f"train.float32_matmul_precision={train.float32_matmul_precision}: "
            f"give one of {', '.join(_PRECISIONS)}"
        )
    if device_kind(train.device) == "cpu":
        logger.info("%d CPU threads (OMP_NUM_THREADS sets them)", torch.get_num_threads())
    torch.set_float32_matmul_precision(train.float32_matmul_precision)
    torch.backends.cudnn.benchmark = train.cudnn_benchmark and not train.deterministic
    _set_deterministic(train.deterministic)
    if train.channels_last:
        model.to(memory_format=torch.channels_last)
    stacks = [m for m in model.modules() if isinstance(m, TransformerLayerSequence)]
    if train.activation_checkpointing:
        checkpointed = [stack for stack in stacks if hasattr(stack, "use_checkpoint")]
        _require(checkpointed, "activation_checkpointing")
        for stack in checkpointed:
            stack.use_checkpoint = True
    if train.compile:
        _require(stacks, "compile")
        for unit in (model.backbone, *(layer for stack in stacks for layer in stack.layers)):
            unit.compile(dynamic=True)  # not torch.compile(unit), which renames its parameters


def _set_deterministic(enabled: bool) -> None:
    """Same seed, same bits: operators without such an algorithm raise an error that names them."""
    if enabled:
        # cuBLAS reads it when it starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(enabled)
    torch.backends.cudnn.deterministic = enabled


def _require(stacks: list[nn.Module], key: str) -> None:
    if not stacks:
        raise InputError(f"train.{key}=True: this model has no layers that it applies to")
