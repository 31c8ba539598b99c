"""Scores of a model on ``cfg.dataloader.test``."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from detectron2.config import instantiate
from detectron2.evaluation import inference_on_dataset
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf
from torch import nn

from detrex.config.instantiation import call_with
from detrex.data.custom import given_splits
from detrex.data.workers import guard_workers
from detrex.evaluation.coco import COCOEvaluator
from detrex.evaluation.coco_scores import score_text
from detrex.evaluation.figures import check_figure, unknown_figure
from detrex.evaluation.origin import write_origin
from detrex.utils.errors import InputError

from .folder import holds_run
from .sharding import whole_weights
from .trainer import Trainer

logger = logging.getLogger(__name__)


def is_evaluated(cfg: DictConfig) -> bool:
    """Whether a training with this config has an evaluator, and data for it."""
    only_train = given_splits(cfg.dataloader.dataset) == ["train"]
    return cfg.dataloader.get("evaluator") is not None and not only_train


def check_evaluation(cfg: DictConfig) -> None:
    """Build, before training, the evaluator and the mapper; no data is read.

    Raises:
        InputError: an argument that one of them refuses, or an unknown ``train.best_metric`` or
            ``train.early_stopping.metric``.
    """
    if not is_evaluated(cfg):
        logger.info("no validation data or no dataloader.evaluator: nothing is evaluated")
        return
    evaluator = instantiate(cfg.dataloader.evaluator)
    if isinstance(evaluator, COCOEvaluator):  # of others only an evaluation tells
        options = evaluator.per_class, evaluator.diagnose
        check_figure(cfg.train.best_metric, *options)
        stopping = cfg.train.early_stopping
        if stopping.patience is not None and "/" in (stopping.metric or ""):
            check_figure(stopping.metric, *options, "train.early_stopping.metric")
    instantiate(OmegaConf.select(cfg, "dataloader.test.mapper"))


def evaluate(
    cfg: DictConfig,
    model: nn.Module,
    subfolder: str = "",
    weights: dict | None = None,
    loader: Iterable | None = None,
) -> dict:
    """Run the config's evaluator; every process must call this.

    Args:
        cfg: its ``dataloader.test`` and ``dataloader.evaluator`` are used.
        model: without the wrapper of distributed training; its mode is restored.
        subfolder: of the evaluator's output folder, for its files.
        weights: the checkpoint that the model's weights are from, as for :func:`write_origin`,
            which writes it beside the detections.
        loader: of :func:`build_test_loader`; None builds one.

    Returns:
        Task -> metric -> score, on the main process; empty on the others.

    Raises:
        InputError: the config has no evaluator.
    """
    node = cfg.dataloader.get("evaluator")
    if node is None:
        raise InputError("dataloader.evaluator is not set: nothing can be evaluated")
    loader = build_test_loader(cfg) if loader is None else loader
    measured = model
    if subfolder and (folder := node.get("output_dir")) is not None:
        evaluator = call_with(node, output_dir=os.path.join(folder, subfolder))
    else:
        evaluator = instantiate(node)
    if getattr(evaluator, "diagnose", False):
        from detrex.evaluation.alignment import with_layers  # with scipy, which others do not need

        measured = with_layers(model)
    with whole_weights(model):
        results = inference_on_dataset(measured, loader, evaluator)
    if comm.is_main_process():
        _log_for_spreadsheets(results)
        if weights and isinstance(evaluator, COCOEvaluator) and evaluator.output_dir:
            write_origin(evaluator.output_dir, evaluator.json_file, weights)
    return results


def build_test_loader(cfg: DictConfig) -> Iterable:
    """Build the config's loader of validation images; it can be iterated again and again."""
    return guard_workers(instantiate(cfg.dataloader.test))


def _log_for_spreadsheets(results: Mapping[str, Mapping[str, float]]) -> None:
    """Log detectron2's lines of names and scores to copy, without those of single classes."""
    for task, scores in results.items():
        main = {name: x for name, x in scores.items() if not name.startswith("AP-")}
        logger.info("copypaste: Task: %s", task)
        logger.info("copypaste: %s", ",".join(main))
        logger.info("copypaste: %s", ",".join(score_text(s, ".4f") for s in main.values()))


def evaluate_both(cfg: DictConfig, trainer: Trainer) -> dict[str, float]:
    """Score the model and, as ``ema_<task>`` and with files in ``ema/``, its averaged weights.

    Returns:
        "<task>/<metric>" -> score, on the main process; empty on the others.

    Raises:
        InputError: the evaluator returns something else than numbers, or no
            ``train.best_metric``.
    """
    weights = {"checkpoint": None, "iteration": trainer.iter, "averaged": False}
    model, ema, loader = trainer.network, trainer.ema, build_test_loader(cfg)
    results = evaluate(cfg, model, weights=weights, loader=loader)
    if ema is not None:
        with ema.applied(model):
            averaged = evaluate(cfg, model, "ema", {**weights, "averaged": True}, loader)
        results = {**results, **{f"ema_{task}": scores for task, scores in averaged.items()}}
    scores = flatten_results_dict(results)
    if scores and best_metric(cfg) not in scores:
        raise unknown_figure(cfg.train.best_metric, scores)
    return {name: _number(name, score) for name, score in scores.items()}


def best_metric(cfg: DictConfig, figure: str | None = None) -> str:
    """Return the name among :func:`evaluate_both`'s of a figure, by default of the one that chooses
    the best weights; a name that is none of an evaluation's, as "total_loss", stays."""
    figure = figure or cfg.train.best_metric
    return f"{'ema_' if cfg.train.model_ema.enabled and '/' in figure else ''}{figure}"


def _number(name: str, score: object) -> float:
    try:
        return float(score)
    except (TypeError, ValueError) as error:
        raise InputError(f"dataloader.evaluator: {name} is {score!r:.40}, not a number") from error


def eval_subfolder(cfg: DictConfig, checkpoint: str) -> str:
    """Return the subfolder of the evaluator's output folder for files of ``--eval-only``.

    It is ``eval_<name of the checkpoint>`` if a run is in the output folder, whose files stay; else
    "", the output folder itself.
    """
    folder = cfg.dataloader.evaluator and cfg.dataloader.evaluator.get("output_dir")
    if not folder or not holds_run(Path(folder)):
        return ""
    subfolder = "eval_" + re.sub(r"[^\w.-]+", "_", Path(checkpoint).stem)
    logger.info("%s holds a run: detections go to its %s/", folder, subfolder)
    return subfolder
