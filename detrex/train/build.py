"""A config's trainer: its step, checkpoints, evaluation, hooks and writers."""

from __future__ import annotations

import functools
import logging
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from detectron2.config import instantiate
from detectron2.engine import HookBase
from detectron2.engine.defaults import create_ddp_model
from detectron2.engine.hooks import IterationTimer
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, JSONWriter, TensorboardXWriter
from omegaconf import DictConfig, OmegaConf
from torch import nn

from detrex.config.lengths import is_due
from detrex.modeling.ema import ModelEma
from detrex.utils.device import AMP_TYPES, check_amp_type
from detrex.utils.errors import InputError
from detrex.utils.events import ConsoleWriter
from detrex.utils.optional import need_package
from detrex.utils.progress import Bar
from detrex.utils.trackers import enabled_trackers

from .best import BestCheckpoint, EarlyStopping
from .checkpoints import TrainingCheckpoints
from .evaluate import best_metric, evaluate_both, is_evaluated
from .folder import METRICS, put_events_in_order, rewind_metrics
from .optim import LearningRates, build_optimizer
from .sharding import shard
from .trainer import StepOptions, Trainer

logger = logging.getLogger(__name__)


def build_trainer(
    cfg: DictConfig,
    model: nn.Module,
    loader: Iterable[list[dict]],
    metadata: dict,
    start: int,
) -> Trainer:
    """Build the trainer of one process, without writers.

    Args:
        cfg: resolved: every length is in iterations, the seed is not negative.
        model: on its device, with the weights to start from.
        loader: yields this process's batches.
        metadata: stored in every checkpoint.
        start: the first iteration; above 0 the run in the output folder is resumed.

    Raises:
        InputError: an unknown ``amp.dtype``, an optimizer rule that matches nothing, an entry of
            ``train.hooks`` that is no hook, or a tracker that is not installed.
    """
    for tracker in enabled_trackers(cfg):
        need_package(tracker.name, tracker.name, f"train.{tracker.name}.enabled")
    average = cfg.train.model_ema
    wrapped = distributed(cfg, model)
    optimizer = build_optimizer(cfg, model)
    ema = None
    if average.enabled:
        ema = ModelEma(model, average.decay, average.device, average.warmup)
    options = _step_options(cfg, next(model.parameters()).device.type)
    trainer = Trainer(wrapped, loader, optimizer, options, ema)
    schedule = instantiate(cfg.lr_multiplier)
    trainer.learning_rates = LearningRates(optimizer, schedule, cfg.train.max_iter)
    checkpoints = TrainingCheckpoints(
        trainer, cfg.train.output_dir, metadata, cfg.train.checkpointer.max_to_keep
    )
    trainer.save = checkpoints.save
    folder = OmegaConf.select(cfg, "dataloader.evaluator.output_dir")
    best = BestCheckpoint(
        *(checkpoints, best_metric(cfg), start > 0, cfg.train.reload_best),
        evaluated=None if folder is None else Path(folder),
    )
    trainer.keep_best = best.keep
    if is_evaluated(cfg):
        trainer.evaluate = functools.partial(evaluate_both, cfg)
    stopping = cfg.train.early_stopping
    if stopping.patience is not None:
        metric = best_metric(cfg, stopping.metric)
        early = EarlyStopping(metric, stopping.patience, stopping.min_gain)
        trainer.register_hooks([early])
        trainer.is_over = early.is_over
    # The timer comes first, so that it does not measure users' hooks.
    trainer.register_hooks([IterationTimer(), *_users_hooks(cfg)])
    return trainer


def _users_hooks(cfg: DictConfig) -> Iterator[HookBase]:
    for i, node in enumerate(cfg.train.hooks):
        try:
            hook = instantiate(node)
        except (TypeError, ValueError) as error:
            raise InputError(f"train.hooks[{i}] cannot be built: {error}") from error
        if not isinstance(hook, HookBase):
            raise InputError(f"train.hooks[{i}]={hook!r:.40}: give hooks, e.g. [L(MyHook)()]")
        yield hook


def distributed(cfg: DictConfig, model: nn.Module) -> nn.Module:
    """Return the model for several processes: in DistributedDataParallel, or itself, sharded.

    Raises:
        InputError: synchronised norms on the CPU, or see ``train.sharding``.
    """
    device = next(model.parameters()).device
    synchronised = any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())
    if synchronised and device.type == "cpu" and comm.get_world_size() > 1:
        raise InputError("SyncBN needs GPUs: on several CPU processes set the model's norms to BN")
    if _is_to_shard(cfg):
        shard(model)
        return model
    ids = None if device.type == "cpu" else [device.index]
    with warnings.catch_warnings():
        # torch renames broadcast_buffers, which is a key of upstream's configs.
        warnings.simplefilter("ignore", FutureWarning)
        return create_ddp_model(model, device_ids=ids, **cfg.train.ddp)


def _is_to_shard(cfg: DictConfig) -> bool:
    """Whether the model is to be sharded.

    Raises:
        InputError: ``train.sharding`` is unknown, or goes with another key that is set.
    """
    if cfg.train.sharding not in ("none", "full"):
        raise InputError(f"train.sharding={cfg.train.sharding}: give none or full")
    if cfg.train.sharding == "none":
        return False
    for key in ("ddp.fp16_compression", "ddp.broadcast_buffers", "model_ema.device"):
        if OmegaConf.select(cfg.train, key):
            raise InputError(f"train.sharding=full goes without train.{key}: leave that out")
    if comm.get_world_size() == 1:
        logger.info("train.sharding=full: one process has nothing to share, it trains as without")
        return False
    return True


def _step_options(cfg: DictConfig, kind: str) -> StepOptions:
    amp, clip = cfg.train.amp, cfg.train.clip_grad
    if amp.enabled:
        check_amp_type(kind, amp.dtype)
    return StepOptions(
        amp_dtype=AMP_TYPES[amp.dtype] if amp.enabled else None,
        accumulation_steps=cfg.train.accumulation_steps,
        clip=OmegaConf.to_container(clip.params) if clip.enabled else None,
        seed=cfg.train.seed,
        log_period=cfg.train.log_period,
        checkpoint_period=cfg.train.checkpointer.period,
        eval_period=cfg.train.eval_period,
        output_dir=cfg.train.output_dir,
    )


def open_writers(cfg: DictConfig, start: int, bar: Bar | None = None) -> list[EventWriter]:
    """Open the writers of losses and scores; remove what a resumed run will write again.

    Args:
        cfg: as :func:`build_trainer` takes it.
        start: the first iteration.
        bar: of a terminal.

    Raises:
        InputError: a tracker that cannot be reached.
    """
    folder = Path(cfg.train.output_dir)
    # Scores have the number of iterations done, which is the number of the step that follows.
    again = start == cfg.train.max_iter or is_due(start, cfg.train.eval_period)
    rewind_metrics(folder, start, start if again else start + 1)
    put_events_in_order(folder, int(time.time()))
    writers = [
        ConsoleWriter(cfg.train.max_iter, bar),
        JSONWriter(str(folder / METRICS)),
        TensorboardXWriter(str(folder), purge_step=start if again else start + 1),
    ]
    return writers + [tracker(cfg) for tracker in enabled_trackers(cfg)]
