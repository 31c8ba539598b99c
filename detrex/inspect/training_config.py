"""A short config file that trains a model on a data set on this machine, and its command."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from detrex.config.models import MODELS, ROOT, model_file, model_name
from detrex.utils.device import device_count, resolve_device
from detrex.utils.text import literal

from .dataset_check import SplitReport, most_objects
from .object_limits import room_settings

LEAST_IMAGES, LEAST_EPOCHS = 10_000, 24  # that a training sees
IMAGES_PER_DEVICE = 2
ONE_DEVICE = 4  # a recipe of at most so many images an iteration is for one device
_SWITCH = "model.criterion.matcher.matcher_change_iter"
_TEXT = '''"""{model} on {name}: {classes} classes, {images} images. Every key: docs/training.md.

    {commands}
"""

from detrex.config import model_config

dataloader, lr_multiplier, model, optimizer, train = model_config({source})

{lines}
'''


@dataclass(frozen=True)
class TrainingConfig:
    """A config file to write, and the shell command that trains with it."""

    text: str
    command: str


def training_config(
    path: Path,
    model: str,
    cfg: DictConfig,
    name: str,
    reports: Mapping[str, SplitReport],
    init_checkpoint: str,
) -> TrainingConfig:
    """Describe the training of a model on a data set.

    Args:
        path: of the config file.
        model: a name of ``MODELS``, or the path of a config file.
        cfg: the model's config, of ``load_config``.
        name: of the data set.
        reports: of its splits.
        init_checkpoint: weights to start from: a local file, an address, or empty.
    """
    batch, devices = _batch(cfg.dataloader.train.total_batch_size)
    train, run = reports["train"], f"output/{name}_{model_name(model)}"
    processes = ["--num-gpus", str(devices)] if devices > 1 else []
    command = _command(_script(model), "--config-file", str(path), *processes)
    trained = f"{run}/config.yaml", f"{run}/model_final.pth"
    predict = _command(ROOT / "tools/predict.py", *trained, "PHOTOS", "-o", "found")
    text = _TEXT.format(
        model=_in_docstring(model_name(model)),
        name=name,
        classes=len(train.classes),
        images=train.image_count,
        commands="\n    ".join(map(_in_docstring, (command, predict))),
        source=_quoted(_source(model)),
        lines="\n".join(
            [
                *_data_lines(name, reports),
                *_recipe_lines(cfg, batch, train.image_count),
                *(f"{k} = {n}" for k, n in room_settings(cfg, *most_objects(reports)).items()),
                f"train.init_checkpoint = {_quoted(_anywhere(init_checkpoint))}",
                f"train.output_dir = {_quoted(run)}",
            ]
        ),
    )
    return TrainingConfig(text, command)


def _data_lines(name: str, reports: Mapping[str, SplitReport]) -> Iterator[str]:
    yield f"dataloader.dataset.name = {_quoted(name)}"
    for split, report in reports.items():
        paths = (_quoted(_anywhere(path)) for path in (report.json_file, report.images))
        yield f"dataloader.dataset.{split} = dict(json={next(paths)}, images={next(paths)})"


def _recipe_lines(cfg: DictConfig, batch: int, image_count: int) -> Iterator[str]:
    loader, device = cfg.dataloader.train, _accelerator()[0]
    reference = cfg.optimizer.get("reference_batch_size") or loader.total_batch_size
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    epochs = max(LEAST_EPOCHS, -(-LEAST_IMAGES // image_count))
    yield f"dataloader.train.total_batch_size = {batch}  # images an iteration, on all devices"
    yield f"dataloader.train.num_workers = dataloader.test.num_workers = {min(4, cpus or 1)}"
    yield f"optimizer.reference_batch_size = {reference}  # optimizer.lr is scaled from it to yours"
    yield f'train.max_iter = "{epochs}ep"  # epochs; more while scores still rise'
    yield f'train.eval_period = train.checkpointer.period = "{max(1, epochs // 24)}ep"'
    if isinstance(OmegaConf.select(cfg, _SWITCH), int | float):
        yield f"{_SWITCH} = 0.75  # of the run"
    if cfg.train.device not in ("auto", device):
        yield f"train.device = {_quoted(device)}"


def _batch(published: int) -> tuple[int, int]:
    """Images of an iteration, and processes, on this machine."""
    if published <= ONE_DEVICE:
        return published, 1
    _, devices = _accelerator()
    return min(published, IMAGES_PER_DEVICE * max(1, devices)), devices


def _accelerator() -> tuple[str, int]:
    """The device that trains here by default, and how many of it there are."""
    device = resolve_device("auto")
    return device, device_count(device)


def _script(model: str) -> Path:
    file = model_file(model).resolve()
    projects = ROOT / "projects"
    if file.is_relative_to(projects):
        return projects / file.relative_to(projects).parts[0] / "train_net.py"
    return ROOT / "tools/train_net.py"


def _command(script: Path, *arguments: str) -> str:
    return shlex.join(["python", os.path.relpath(script), *arguments])


def _in_docstring(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _source(model: str) -> str:
    """What ``model_config`` is called with, from any folder."""
    if model_name(model) in MODELS:
        return model_name(model)
    file = model_file(model).resolve()
    return str(file.relative_to(ROOT) if file.is_relative_to(ROOT) else file)


def _anywhere(path: str) -> str:
    """A path as it is named from any folder."""
    return path if not path or "://" in path else literal(str(Path(path).resolve()))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else repr(text)
