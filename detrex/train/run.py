"""Training or evaluation as the command line says, in each process of a run."""

from __future__ import annotations

import argparse
import datetime
import functools
import logging
import math
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig
from torch import nn

from detrex.checkpoint import load_weights, read_checkpoint
from detrex.checkpoint.model import build_model, trained_model
from detrex.config import config_yaml, json_config
from detrex.config.learning_rate import scale_learning_rate
from detrex.config.lengths import keep_matcher_switch, resolve_schedule, switch_values
from detrex.config.load import load_config
from detrex.data import DatasetInfo
from detrex.data.windows import check_windows
from detrex.utils import events
from detrex.utils.cli import LOGGERS, write_out
from detrex.utils.collect_env import hardware
from detrex.utils.device import resolve_device
from detrex.utils.errors import InputError
from detrex.utils.progress import terminal_bar

from .build import build_trainer, open_writers
from .checkpoints import newest_checkpoint, next_iteration, restore
from .data import build_loader, prepare_data, read_train_set
from .dry_run import rehearse
from .evaluate import check_evaluation, eval_subfolder, evaluate, is_evaluated
from .folder import check_output_folder, read_record, set_aside, write_record
from .folder_lock import lock_folder
from .optim import freeze
from .preemption import Preemption
from .trained_on import (
    check_processes_agree,
    check_resumed,
    data_differences,
    describe_data,
    on_all_processes,
)
from .trainer import Trainer

logger = logging.getLogger(__name__)


def run(
    args: argparse.Namespace,
    cfg: DictConfig | None = None,
    listener: type[Preemption] = Preemption,
) -> dict:
    """Train or evaluate as the command line says; every process of the run calls this.

    Args:
        args: of the command line.
        cfg: its config if it is loaded already.
        listener: for what ends a training early.

    Returns:
        The scores of an evaluation; empty after training.

    Raises:
        InputError: whatever is wrong with config, data, checkpoint or output folder.
        NonFiniteLoss: a loss became NaN or infinite.
    """
    if args.resume and args.reuse_output:
        raise InputError("--resume continues a run, --reuse-output starts a new one: give one")
    if args.dry_run and args.eval_only:
        raise InputError("--dry-run is of a training, --eval-only makes none: give one")
    _log_to(None)
    if cfg is None:
        cfg = load_config(args.config_file, args.opts, args.trust_config)
    device = resolve_device(cfg.train.device)
    if device == "cpu" and cfg.train.device == "auto" and comm.is_main_process():
        logger.warning("train.device=auto: this machine has no accelerator, computing on the CPU")
    cfg.train.device = device
    if args.eval_only:
        return evaluate_run(cfg, args)
    return train_run(cfg, args, listener)


def evaluate_run(cfg: DictConfig, args: argparse.Namespace) -> dict:
    """Score exactly the weights of ``train.init_checkpoint``."""
    path = cfg.train.init_checkpoint
    if not path:
        raise InputError("--eval-only: name the weights with train.init_checkpoint=/path/to.pth")
    info = on_all_processes(lambda: prepare_data(cfg, args.opts, ["test"]))
    check_processes_agree(on_all_processes(lambda: describe_data(cfg, info, None, True)))
    content = read_checkpoint(path, args.trust_checkpoint)
    ema, done = cfg.train.model_ema, content.get("iteration")
    weights = {
        "checkpoint": str(path),
        "iteration": done + 1 if isinstance(done, int) else None,
        "averaged": ema.enabled and ema.use_ema_weights_for_eval_only and "ema_state" in content,
    }
    model = trained_model(cfg, path, content, args.allow_partial)
    _check_classes(path, content.get("metadata"), info, args.allow_partial)
    return evaluate(cfg, model.to(cfg.train.device), eval_subfolder(cfg, path), weights)


def train_run(
    cfg: DictConfig, args: argparse.Namespace, listener: type[Preemption] = Preemption
) -> dict:
    """Train, from the start or from the output folder's last checkpoint.

    Raises:
        SystemExit: a signal has ended the run; the status is ``PREEMPTED``.
    """
    with listener() as preemption:
        loaders = ["train", "test"] if is_evaluated(cfg) else ["train"]
        info = on_all_processes(lambda: prepare_data(cfg, args.opts, loaders))
        folder, is_main = Path(cfg.train.output_dir), comm.is_main_process()
        locks = is_main and not args.dry_run
        with on_all_processes(lambda: lock_folder(folder) if locks else nullcontext()):
            _train(cfg, args, info, preemption)
    return {}


def _train(
    cfg: DictConfig, args: argparse.Namespace, info: DatasetInfo | None, preemption: Preemption
) -> None:
    folder = Path(cfg.train.output_dir)
    config = json_config(cfg)  # before lengths, seed and the like are resolved
    # No process writes before all have checked the folder.
    on_all_processes(lambda: check_output_folder(folder, config, args.resume, args.reuse_output))
    if not args.dry_run:
        _log_to(folder)
    saved = read_record(folder) if args.resume else {}
    trainer, start, record = _build(cfg, args, info, saved)
    trainer.preemption = preemption
    if args.dry_run:
        rehearse(cfg, trainer, start, record["epoch_length"])
        return
    if is_main := comm.is_main_process():
        if args.reuse_output:
            set_aside(folder)
        now = datetime.datetime.now(datetime.timezone.utc)
        record |= dict(
            config=config, started=saved.get("started", now.isoformat(timespec="seconds"))
        )
        write = functools.partial(write_record, folder, cfg, record, args.config_file)
        if start:  # the earlier start's files stay if this one fails in its first step
            trainer.first_step_made = write
        else:
            write()
    with terminal_bar(LOGGERS, events.__name__) if is_main else nullcontext() as bar:
        if is_main:
            trainer.writers = open_writers(cfg, start, bar)
        trainer.train(start, cfg.train.max_iter)


def _build(
    cfg: DictConfig, args: argparse.Namespace, info: DatasetInfo | None, saved: dict
) -> tuple[Trainer, int, dict]:
    """Return the trainer, ready to go on, its first iteration, and what is noted of the run."""
    records, data = on_all_processes(lambda: _read_data(cfg, info))
    check_processes_agree(data)
    batch = cfg.dataloader.train.total_batch_size
    epoch_length = None if records is None else math.ceil(len(records) / batch)
    _resolve(cfg, args, epoch_length, saved)
    model = build_model(cfg).to(cfg.train.device)
    freeze(model, cfg.train.freeze)
    folder = Path(cfg.train.output_dir)
    checkpoint, content = newest_checkpoint(folder) if args.resume else (None, {})
    data = on_all_processes(lambda: _load(cfg, args, model, data, checkpoint, content))
    start = next_iteration(content, checkpoint, cfg.train.max_iter) if checkpoint else 0
    loader = build_loader(cfg, records, start)
    metadata = {"format": 1, "config": config_yaml(cfg), **data}
    trainer = build_trainer(cfg, model, loader, metadata, start)
    if checkpoint:
        restore(trainer, content, checkpoint)
    content.clear()  # large, and not needed while training
    record = dict(seed=cfg.train.seed, overrides=list(args.opts), epoch_length=epoch_length)
    record |= dict(data=data, parameters=sum(p.numel() for p in model.parameters()))
    record["matcher_change_iter"] = switch_values(cfg)
    record["hardware"] = hardware(cfg.train.device, comm.get_world_size())
    record["command"] = getattr(args, "call", None) or shlex.join(sys.argv)
    return trainer, start, record


def _read_data(cfg: DictConfig, info: DatasetInfo | None) -> tuple[Sequence[dict] | None, dict]:
    """Return the training set's records, and a description of what this process has read."""
    check_evaluation(cfg)
    records = read_train_set(cfg)
    return records, describe_data(cfg, info, records, is_evaluated(cfg))


def _resolve(
    cfg: DictConfig, args: argparse.Namespace, epoch_length: int | None, saved: dict
) -> None:
    """Resolve in the config what depends on the data, on the resumed run, or on chance."""
    resolve_schedule(cfg, epoch_length, args.opts)
    check_windows(cfg)
    scale_learning_rate(cfg)
    keep_matcher_switch(cfg, saved.get("matcher_change_iter", []))
    if cfg.train.seed < 0:
        cfg.train.seed = saved.get("seed", comm.shared_random_seed())
    logger.info("seed %d", cfg.train.seed)
    seed_all_rng(cfg.train.seed)


def _load(
    cfg: DictConfig,
    args: argparse.Namespace,
    model: nn.Module,
    data: dict,
    checkpoint: Path | None,
    content: dict,
) -> dict:
    """Load the weights to start from; return the description of what the run is trained on."""
    if checkpoint:
        data = check_resumed(data, content.get("metadata"), checkpoint)
        load_weights(model, checkpoint, strict=True, content=content)
        return data
    if args.resume:
        logger.info("no checkpoint in %s: starting from the beginning", cfg.train.output_dir)
    if cfg.train.init_checkpoint:
        path, trusted, classes = cfg.train.init_checkpoint, args.trust_checkpoint, data["classes"]
        load_weights(model, path, strict=False, trusted=trusted, classes=classes)
    return data


def _check_classes(
    path: str, metadata: dict | None, info: DatasetInfo | None, allowed: bool
) -> None:
    """Refuse to score a model on data whose classes it was not trained on."""
    trained = (metadata or {}).get("classes")
    if not trained or info is None or trained == info.classes:
        return
    differences = data_differences({"classes": info.classes}, {"classes": trained})
    message = (
        f"the data has other classes than checkpoint {path} was trained on "
        f"({'; '.join(differences)})"
    )
    if not allowed:
        raise InputError(f"{message}; --allow-partial scores it anyway")
    logger.warning(message)


def _log_to(folder: Path | None) -> None:
    """Log to the console (main process, INFO) or to the run's folder (every process, DEBUG)."""
    for name in LOGGERS:
        output = None if folder is None else str(folder)
        log = setup_logger(output, comm.get_rank(), name=name, configure_stdout=folder is None)
        for handler in log.handlers:
            if folder is None:
                handler.setLevel(logging.INFO)
            if name in ("detrex", "projects"):  # the others' messages are coloured
                handler.addFilter(write_out)
