"""Scores of a model on ``cfg.dataloader.test``."""

from __future__ import annotations

import logging
import os

from detectron2.config import instantiate
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf
from torch import nn

from detrex.data.custom_coco import given_splits
from detrex.data.workers import guard_workers
from detrex.evaluation.alignment import with_layers
from detrex.modeling.ema import ModelEma
from detrex.utils.errors import InputError

from .instantiation import call_with

logger = logging.getLogger(__name__)


def is_evaluated(cfg: DictConfig) -> bool:
    """Whether a training with this config has an evaluator, and data for it."""
    own_data = given_splits(cfg.dataloader.dataset)
    return cfg.dataloader.get("evaluator") is not None and own_data != ["train"]


def check_evaluation(cfg: DictConfig) -> None:
    """Build, before training, what the first evaluation will need; its data is not read.

    Raises:
        InputError: an argument that the evaluator or the mapper refuses.
    """
    if not is_evaluated(cfg):
        logger.info("no validation data or no dataloader.evaluator: nothing is evaluated")
        return
    instantiate(cfg.dataloader.evaluator)
    instantiate(OmegaConf.select(cfg, "dataloader.test.mapper"))


def evaluate(cfg: DictConfig, model: nn.Module, subfolder: str = "") -> dict:
    """Run the config's evaluator; every process must call this.

    Args:
        cfg: its ``dataloader.test`` and ``dataloader.evaluator`` are used.
        model: without the wrapper of distributed training; its mode is restored.
        subfolder: of the evaluator's output folder; its files go there.

    Returns:
        Task -> metric -> score, on the main process; empty on the others.

    Raises:
        InputError: the config has no evaluator.
    """
    if cfg.dataloader.get("evaluator") is None:
        raise InputError("dataloader.evaluator is not set: there is nothing that could evaluate")
    loader = guard_workers(instantiate(cfg.dataloader.test))
    evaluator = _evaluator(cfg, subfolder)
    if getattr(evaluator, "diagnose", False):
        model = with_layers(model)
    results = inference_on_dataset(model, loader, evaluator)
    if comm.is_main_process():
        print_csv_format(results)
    return results


def _evaluator(cfg: DictConfig, subfolder: str) -> DatasetEvaluator:
    node = cfg.dataloader.evaluator
    folder = node.get("output_dir")
    if not subfolder or folder is None:
        return instantiate(node)
    return call_with(node, output_dir=os.path.join(folder, subfolder))


def evaluate_both(cfg: DictConfig, model: nn.Module, ema: ModelEma | None) -> dict:
    """Score the model and, as ``ema_<task>`` and with files in ``ema/``, its averaged weights."""
    results = evaluate(cfg, model)
    if ema is not None:
        with ema.applied(model):
            averaged = evaluate(cfg, model, "ema")
        results = {**results, **{f"ema_{task}": scores for task, scores in averaged.items()}}
    return results
