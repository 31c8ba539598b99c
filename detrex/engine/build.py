"""A trainer with its hooks, from a resolved config."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.engine import HookBase
from detectron2.engine.defaults import create_ddp_model
from detectron2.engine.hooks import IterationTimer
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, JSONWriter, TensorboardXWriter
from fvcore.common.param_scheduler import ParamScheduler
from omegaconf import DictConfig, OmegaConf
from torch import nn

from detrex.modeling.ema import ModelEma
from detrex.utils.errors import InputError
from detrex.utils.events import ConsoleWriter, WandbWriter, wandb_installed

from .checkpoints import TrainingCheckpoints
from .evaluate import evaluate_both, is_evaluated
from .hooks import (
    BestCheckpoint,
    Evaluation,
    LRScheduler,
    MatcherIteration,
    PeriodicCheckpoint,
    Writers,
    evaluation_due,
)
from .optim import build_optimizer
from .preemption import Preemption
from .run_folder import METRICS, put_events_in_order, rewind_metrics
from .trainer import StepOptions, Trainer

AMP_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def build_trainer(
    cfg: DictConfig,
    model: nn.Module,
    loader: Iterable[list[dict]],
    metadata: dict,
    preemption: Preemption,
) -> Trainer:
    """Build the trainer of one process.

    Args:
        cfg: with every period in iterations and a concrete seed.
        model: on its device, with its weights.
        loader: this process's batches.
        metadata: stored in every checkpoint.
        preemption: listening.

    Raises:
        InputError: an unknown ``amp.dtype``, an optimizer rule that matches nothing, or wandb
            enabled but not installed.
    """
    optimizer = build_optimizer(cfg, model)
    ema = None
    average = cfg.train.model_ema
    if average.enabled:
        ema = ModelEma(model, average.decay, average.device, average.warmup)
    trainer = Trainer(_distributed(cfg, model), loader, optimizer, _step_options(cfg), ema)
    checkpoints = TrainingCheckpoints(
        trainer, cfg.train.output_dir, metadata, cfg.train.checkpointer.max_to_keep
    )
    trainer.register_hooks(_hooks(cfg, trainer, checkpoints, preemption))
    return trainer


def _distributed(cfg: DictConfig, model: nn.Module) -> nn.Module:
    device = next(model.parameters()).device
    synchronised = any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())
    if synchronised and device.type == "cpu" and comm.get_world_size() > 1:
        raise InputError("SyncBN needs GPUs: on several CPU processes set the model's norms to BN")
    ids = [device.index] if device.type == "cuda" else None
    with warnings.catch_warnings():
        # broadcast_buffers is upstream's key; torch renames it.
        warnings.simplefilter("ignore", FutureWarning)
        return create_ddp_model(model, device_ids=ids, **cfg.train.ddp)


def _step_options(cfg: DictConfig) -> StepOptions:
    amp, clip = cfg.train.amp, cfg.train.clip_grad
    if amp.enabled and amp.dtype not in AMP_TYPES:
        raise InputError(f"train.amp.dtype={amp.dtype}: give one of {', '.join(AMP_TYPES)}")
    return StepOptions(
        amp_dtype=AMP_TYPES[amp.dtype] if amp.enabled else None,
        accumulation_steps=cfg.train.accumulation_steps,
        clip=OmegaConf.to_container(clip.params) if clip.enabled else None,
        seed=cfg.train.seed,
        log_period=cfg.train.log_period,
        output_dir=cfg.train.output_dir,
    )


def _hooks(
    cfg: DictConfig, trainer: Trainer, checkpoints: TrainingCheckpoints, preemption: Preemption
) -> list[HookBase | None]:
    scheduler = instantiate(cfg.lr_multiplier)
    if isinstance(scheduler, ParamScheduler):
        scheduler = LRMultiplier(trainer.optimizer, scheduler, cfg.train.max_iter)
    if cfg.train.wandb.enabled and not wandb_installed():
        raise InputError("train.wandb.enabled is set, but wandb is missing: pip install wandb")
    evaluation = functools.partial(evaluate_both, cfg, trainer)
    best = "bbox/AP" if trainer.ema is None else "ema_bbox/AP"
    period, eval_period = cfg.train.log_period, cfg.train.eval_period
    make_writers = functools.partial(_writers, cfg, trainer)
    is_main = comm.is_main_process()
    return [
        Evaluation(eval_period, evaluation) if is_evaluated(cfg) else None,
        BestCheckpoint(checkpoints, best),
        preemption,
        IterationTimer(),
        MatcherIteration(),
        LRScheduler(scheduler=scheduler),
        Writers(make_writers, period, eval_period, preemption) if is_main else None,
        PeriodicCheckpoint(checkpoints, cfg.train.checkpointer.period, eval_period, preemption),
    ]


def _writers(cfg: DictConfig, trainer: Trainer) -> list[EventWriter]:
    folder = Path(cfg.train.output_dir)
    start, end = trainer.start_iter, cfg.train.max_iter
    # An evaluation is noted under the number of iterations done: no step's number yet.
    again = start == end or evaluation_due(start, cfg.train.eval_period)
    rewind_metrics(folder, start, start if again else start + 1)
    put_events_in_order(folder, int(time.time()))
    writers = [
        ConsoleWriter(cfg.train.max_iter),
        JSONWriter(str(folder / METRICS)),
        TensorboardXWriter(str(folder), purge_step=start if again else start + 1),
    ]
    return writers + ([WandbWriter(cfg)] if cfg.train.wandb.enabled else [])
