"""Scores of a model on ``cfg.dataloader.test``."""

from __future__ import annotations

import logging

from detectron2.config import instantiate
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn

from detrex.evaluation.alignment import with_layers
from detrex.modeling.ema import ModelEma

logger = logging.getLogger(__name__)


def evaluate(cfg: DictConfig, model: nn.Module) -> dict:
    """Run the config's evaluator; every process must call this.

    Args:
        cfg: its ``dataloader.test`` and ``dataloader.evaluator`` are used.
        model: without the wrapper of distributed training; its mode is restored.

    Returns:
        Task -> metric -> score, on the main process; empty on the others.
    """
    if "evaluator" not in cfg.dataloader:
        logger.warning("the config has no dataloader.evaluator: nothing is evaluated")
        return {}
    loader, evaluator = instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator)
    if getattr(evaluator, "diagnose", False):
        model = with_layers(model)
    results = inference_on_dataset(model, loader, evaluator)
    if comm.is_main_process():
        print_csv_format(results)
    return results


def evaluate_both(cfg: DictConfig, model: nn.Module, ema: ModelEma | None) -> dict:
    """Score the model and, as ``ema_<task>``, its averaged weights."""
    results = evaluate(cfg, model)
    if ema is not None:
        with ema.applied(model):
            averaged = evaluate(cfg, model)
        results = {**results, **{f"ema_{task}": scores for task, scores in averaged.items()}}
    return results
