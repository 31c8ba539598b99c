"""A data set checked, converted, and given a config file that trains on it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from detrex.checkpoint import existing_checkpoint
from detrex.checkpoint.efficientnet_lite0 import write_backbone_weights
from detrex.checkpoint.zoo import PREFIX, zoo_entry
from detrex.config.load import load_config
from detrex.config.models import MODELS, model_file, model_name
from detrex.data.formats import Split, read_layout
from detrex.inspect import dataset_check
from detrex.inspect.training_config import training_config
from detrex.utils.device import resolve_device
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write, check_writable
from detrex.utils.text import printable_lines

from .data import prepare_data

_FOR_GPUS = MODELS.keys() - {"small"}
SMALL_WEIGHTS = "output/efficientnet_lite0.pth"  # made here if they are not there


@dataclass(frozen=True)
class DataCheck:
    """What is known of a data set, and how to train on it. Its text is the report.

    Attributes:
        report: counts and oddities, to read.
        config_file: of the training.
        command: that trains with it, from this folder.
        splits: counts of "train" and "val".
    """

    report: str
    config_file: Path
    command: str
    splits: Mapping[str, dataset_check.SplitReport] = field(repr=False)

    def __str__(self) -> str:
        return self.report

    def _repr_html_(self) -> str:
        lines = [self.report, "", f"config file: {self.config_file}"]
        return f"<pre>{html.escape(chr(10).join(lines))}</pre>"


def check(
    data: str | Path,
    model: str = "r50",
    images: str | Path | None = None,
    output: str | Path | None = None,
    init_checkpoint: str | None = None,
    overwrite: bool = False,
    classes: Sequence[str] = (),
    show: Callable[[str], None] = lambda text: None,
) -> DataCheck:
    """Check a data set, convert it, and write pictures of it and a config that trains on it.

    Args:
        data: a folder, or a JSON, YAML or CSV.
        model: that the config trains: a name of ``detrex.config.MODELS``, or a config file.
        images: folder of the images of a JSON or CSV, if they are not near it.
        output: folder for what is written; None: output/data/NAME of the data.
        init_checkpoint: weights to start from; None takes the model's.
        overwrite: replace a config file of an earlier check that has been changed since.
        classes: names of those to train on; boxes of others are left out. Empty: all.
        show: called with each part of the report as soon as it is known.

    Raises:
        InputError: no such data, model or weights, or a fault that would stop the training.
    """
    data, source = Path(data), Path(data).resolve()
    name = dataset_check.data_name(source, classes)
    folder = Path(output or Path("output/data") / name)
    target = folder.resolve()
    if target.is_relative_to(source) or (source.is_file() and target == source.parent):
        raise InputError(f"{folder}: is inside the data; choose another folder with -o")
    check_writable(folder / dataset_check.WRITTEN[0])
    cfg = load_config(str(model_file(model)))
    weights = _checked_weights(model, init_checkpoint, cfg.train.init_checkpoint or "")
    layout, splits = read_layout(data, images and Path(images))
    for split in splits.values() if classes else ():
        split.restrict(classes, "--classes")
    described = f"{source}, classes {', '.join(classes)}" if classes else str(source)
    layout_line = f"{data}: {layout} layout"
    show(layout_line)
    dataset_check.claim_folder(folder, described)
    reports, text = _report(splits, folder, described, cfg)
    show(text)
    dataset_check.write_pictures(reports, folder)
    pictures = ", ".join(f"{picture}.png" for picture in [*reports, "classes"])
    show(f"wrote {folder}/: report.json, {pictures}")
    dataset_check.need_images(reports)
    if "val" not in splits:
        raise InputError(f"{data}: one image cannot be trained and validated on: add another")
    path = folder / f"{model_name(model)}.py"
    training = training_config(path, model, cfg, name, reports, weights)
    for line in _written(path, model, weights, training.text, overwrite):
        show(line)
    # Other faults that would stop the training stop this with the same message.
    prepare_data(load_config(str(path)), [], ["train", "test"])
    return DataCheck(f"{layout_line}\n{text}", path, training.command, reports)


def checked_before(data: str | Path, model: str) -> Path | None:
    """Return the config file that an earlier check of the same data has written for a model."""
    source = Path(data).resolve()
    folder = Path("output/data") / dataset_check.data_name(source)
    path = folder / f"{model_name(model)}.py"
    known = dataset_check.described_data(folder) == str(source)
    return path if known and path.is_file() else None


def _checked_weights(model: str, chosen: str | None, of_model: str) -> str:
    """The weights to start from, which are there, or can be fetched or made."""
    path = chosen or of_model
    if path.startswith(PREFIX):
        zoo_entry(path)  # raises for an unknown name
    if not path or "://" in path or path == SMALL_WEIGHTS:
        return path
    if not chosen and not Path(path).exists():
        raise InputError(
            f"model {model!r} starts from {path}, which is not there: download it "
            "(docs/checkpoints.md) and name it by --init-checkpoint"
        )
    return str(existing_checkpoint(path).resolve())


def _report(
    splits: Mapping[str, Split], folder: Path, described: str, cfg: DictConfig
) -> tuple[dict[str, dataset_check.SplitReport], str]:
    """Count and check the splits, which are written to the folder with the report."""
    reports = {
        split: dataset_check.check_split(
            part, part.saved(folder / f"{split}.json"), split == "train"
        )
        for split, part in splits.items()
    }
    shared = dataset_check.shared_images(reports)
    content = dataset_check.as_json(reports, shared)
    dataset_check.write_report(folder, {"data": described, **content})
    return reports, printable_lines(dataset_check.as_text(reports, shared, cfg))


def _written(path: Path, model: str, weights: str, text: str, overwrite: bool) -> Iterator[str]:
    """Write weights that are made here, and the config file; yield what was done."""
    if weights == SMALL_WEIGHTS and not Path(weights).exists():
        write_backbone_weights(weights)
        yield f"wrote {weights}: weights of the backbone, from ImageNet"
    yield _write_config(path, text, overwrite)
    if model_name(model) in _FOR_GPUS and resolve_device("auto") == "cpu":
        yield "! this machine has no accelerator: --model small is for a CPU"


def _write_config(path: Path, text: str, overwrite: bool) -> str:
    """Write the config file unless a user's is there; return what was done."""
    if path.exists() and not overwrite and path.read_text(encoding="utf-8") != text:
        return f"{path} was there and stays, with its settings: --overwrite writes it anew"
    with atomic_write(path) as stream:
        stream.write(text)
    return f"wrote {path}"
