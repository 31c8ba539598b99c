"""A run from its command line: training or evaluation, in each of its processes."""

from __future__ import annotations

import argparse
import functools
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import instantiate
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig
from torch import nn

from detrex.checkpoint import load_weights, read_checkpoint
from detrex.config import config_yaml, json_config
from detrex.data import DatasetInfo
from detrex.utils.cli import write_out
from detrex.utils.device import resolve_device
from detrex.utils.errors import InputError

from .build import build_trainer, open_writers
from .checkpoints import newest_checkpoint, next_iteration, restore
from .data import build_loader, prepare_data, read_train_set
from .evaluate import check_evaluation, evaluate, is_evaluated, own_folder
from .folder_lock import LOCK, only_run
from .instantiation import is_about_arguments
from .matcher_switch import keep_matcher_switch, resolve_matcher_switch, switch_values
from .optim import freeze
from .performance import apply_performance
from .preemption import Preemption
from .run_folder import (
    METRICS,
    check_output_folder,
    check_regular_files,
    read_record,
    set_aside,
    write_record,
)
from .schedule import resolve_schedule
from .settings import load_config
from .trained_on import (
    check_processes_agree,
    check_resumed,
    data_differences,
    describe_data,
    on_all_processes,
)

logger = logging.getLogger(__name__)
_LOGGERS = ("detrex", "projects", "detectron2", "fvcore")


def run(args: argparse.Namespace) -> dict:
    """Train or evaluate as the command line says; every process of the run calls this.

    Returns:
        The scores of an evaluation; empty after training.

    Raises:
        InputError: whatever is wrong with config, data, checkpoint or output folder.
        NonFiniteLoss: a loss became NaN or infinite.
    """
    if args.resume and args.reuse_output:
        raise InputError("--resume continues a run, --reuse-output starts a new one: give one")
    _log_to(None)
    cfg = load_config(args.config_file, args.opts, args.trust_config)
    return evaluate_run(cfg, args) if args.eval_only else train_run(cfg, args)


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
    model.to(resolve_device(cfg.train.device))
    return evaluate(cfg, model, own_folder(cfg, path), weights)


def trained_model(
    cfg: DictConfig, checkpoint: str, content: dict, allow_partial: bool = False
) -> nn.Module:
    """Build the config's model, on the CPU, with exactly the weights of a checkpoint's content: the
    averaged ones where the config says so and the file has them.

    Raises:
        InputError: without ``allow_partial``, a checkpoint that does not fit.
    """
    model, ema = _build_model(cfg), cfg.train.model_ema
    averaged, strict = ema.enabled and ema.use_ema_weights_for_eval_only, not allow_partial
    load_weights(model, checkpoint, strict=strict, averaged=averaged, content=content)
    if "ema_state" in content and not averaged:
        logger.info(
            "%s has averaged weights too: train.model_ema.enabled=true "
            "train.model_ema.use_ema_weights_for_eval_only=true takes those",
            checkpoint,
        )
    return model


def train_run(cfg: DictConfig, args: argparse.Namespace) -> dict:
    """Train, from the start or from the output folder's last checkpoint.

    Raises:
        SystemExit: a signal has ended the run; the status is ``PREEMPTED``.
    """
    with Preemption() as preemption:
        parts = ["train", "test"] if is_evaluated(cfg) else ["train"]
        info = on_all_processes(lambda: prepare_data(cfg, args.opts, parts))
        folder = Path(cfg.train.output_dir)
        on_all_processes(lambda: check_regular_files(folder, (LOCK, METRICS, _log_name())))
        with only_run(folder):
            _train(cfg, args, info, preemption)
    return {}


def _train(
    cfg: DictConfig, args: argparse.Namespace, info: DatasetInfo | None, preemption: Preemption
) -> None:
    folder = Path(cfg.train.output_dir)
    as_given = json_config(cfg)
    # Nobody writes before everybody has looked.
    on_all_processes(lambda: check_output_folder(folder, as_given, args.resume, args.reuse_output))
    _log_to(folder)
    records, data = on_all_processes(lambda: _read_data(cfg, info))
    check_processes_agree(data)
    saved = read_record(folder) if args.resume else {}
    batch = cfg.dataloader.train.total_batch_size
    epoch_length = None if records is None else math.ceil(len(records) / batch)
    _resolve(cfg, args, epoch_length, saved)
    model = _build_model(cfg).to(resolve_device(cfg.train.device))
    freeze(model, cfg.train.freeze)
    checkpoint = newest_checkpoint(folder) if args.resume else None
    content, data = on_all_processes(lambda: _load(cfg, args, model, data, checkpoint))
    start = next_iteration(content, checkpoint, cfg.train.max_iter) if checkpoint else 0
    loader = build_loader(cfg, records, start)
    trainer = build_trainer(cfg, model, loader, _metadata(cfg, data), start)
    trainer.preemption = preemption
    if checkpoint:
        restore(trainer, content, checkpoint)
    del content, records  # large, and not needed while training
    if comm.is_main_process():
        if args.reuse_output:
            set_aside(folder)
        record = dict(config=as_given, seed=cfg.train.seed, overrides=list(args.opts))
        record |= dict(matcher_change_iter=switch_values(cfg), epoch_length=epoch_length)
        record["data"] = data
        write = functools.partial(write_record, folder, cfg, record, args.config_file)
        if checkpoint:  # the earlier start's files stay if this one fails at once
            trainer.first_step_made = write
        else:
            write()
        trainer.writers = open_writers(cfg, start)
    trainer.train(start, cfg.train.max_iter)


def _read_data(cfg: DictConfig, info: DatasetInfo | None) -> tuple[Sequence[dict] | None, dict]:
    """The training set's records, and what this process has read."""
    check_evaluation(cfg)
    records = read_train_set(cfg)
    return records, describe_data(cfg, info, records, is_evaluated(cfg))


def _build_model(cfg: DictConfig) -> nn.Module:
    try:
        model = instantiate(cfg.model)
    except (TypeError, ValueError) as error:
        if not is_about_arguments(error):
            raise
        raise InputError(f"the config's model cannot be built: {error}") from error
    apply_performance(cfg.train, model)
    return model


def _resolve(
    cfg: DictConfig, args: argparse.Namespace, epoch_length: int | None, saved: dict
) -> None:
    """Write into the config what depends on the data, the run so far, or chance."""
    resolve_schedule(cfg, epoch_length)
    resolve_matcher_switch(cfg, args.opts)
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
) -> tuple[dict, dict]:
    """Load the weights to start from; return the content of the checkpoint that is resumed, and
    what the run is trained on."""
    if checkpoint:
        content = read_checkpoint(checkpoint)
        data = check_resumed(data, content.get("metadata"), checkpoint)
        return load_weights(model, checkpoint, strict=True, content=content)[1], data
    if args.resume:
        logger.info("no checkpoint in %s: starting from the beginning", cfg.train.output_dir)
    if cfg.train.init_checkpoint:
        path, trusted, classes = cfg.train.init_checkpoint, args.trust_checkpoint, data["classes"]
        load_weights(model, path, strict=False, trusted=trusted, classes=classes)
    return {}, data


def _metadata(cfg: DictConfig, data: dict) -> dict:
    return {"format": 1, "config": config_yaml(cfg), **data}


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


def _log_name() -> str:
    """Of this process, as detectron2's ``setup_logger`` has it."""
    return f"log.txt.rank{comm.get_rank()}" if comm.get_rank() else "log.txt"


def _log_to(folder: Path | None) -> None:
    """Log to the console (main process, INFO) or to the run's folder (every process, DEBUG)."""
    for name in _LOGGERS:
        output = None if folder is None else str(folder)
        log = setup_logger(output, comm.get_rank(), name=name, configure_stdout=folder is None)
        for handler in log.handlers:
            if folder is None:
                handler.setLevel(logging.INFO)
            if name in ("detrex", "projects"):  # the others' messages are coloured
                handler.addFilter(write_out)
