"""Putting weights into a model, with an account of what fitted and what did not."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import Tensor, nn

from detrex.utils.errors import InputError
from detrex.utils.text import first_few

from .classes import carry_classes
from .files import read_checkpoint

logger = logging.getLogger(__name__)
# Constants of the loss, and counters that nothing reads: absent in many files.
IGNORED, COUNTERS = "criterion.", "num_batches_tracked"


@dataclass(frozen=True)
class LoadReport:
    """What happened to every tensor.

    Attributes:
        loaded: names that were loaded.
        missing: the model's names that the file has under no alias.
        unexpected: the file's names that the model does not have.
        misshaped: name -> (shape in the file, shape in the model).
        total: tensors in the model.
    """

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    misshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    total: int

    def __bool__(self) -> bool:
        """Whether the file and the model agree completely."""
        return not (self.missing or self.unexpected or self.misshaped)

    def summary(self) -> str:
        """Return e.g. "loaded 318 of 662 tensors: backbone 318"."""
        parts = Counter(name.split(".")[0] for name in self.loaded)
        groups = ", ".join(f"{part} {count}" for part, count in parts.items())
        return f"loaded {len(self.loaded)} of {self.total} tensors: {groups}"

    def differences(self) -> str:
        """Return one line with counts and the first few names of each kind."""
        shapes = [
            f"{name} {list(file)} in the file, {list(model)} in the model"
            for name, (file, model) in self.misshaped.items()
        ]
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": shapes}
        return "; ".join(
            f"{len(names)} {kind} ({first_few(names)})" for kind, names in kinds.items() if names
        )


def load_weights(
    model: nn.Module,
    path: str | Path,
    *,
    strict: bool,
    averaged: bool = False,
    trusted: bool = False,
    classes: Sequence[str] | None = None,
    content: dict | None = None,
) -> tuple[LoadReport, dict]:
    """Load a checkpoint's weights into a model.

    Accepts this project's and upstream's checkpoints, plain state dicts, "module." prefixes,
    detectron2's zoo, and the weights of a backbone alone.

    Args:
        model: changed in place; untouched if an error is raised.
        path: file or URL.
        strict: require that file and model agree; else load what fits.
        averaged: take the averaged weights; of a file that has none, with a warning, the model's.
        trusted: run the code that the file may hold.
        classes: what the model is to tell apart; the file's class weights are taken over by name.
        content: of the file, where it has been read; its weights are removed.

    Returns:
        The report, and the file's other content.

    Raises:
        InputError: an unreadable file, one that fits nothing, or with ``strict`` not everything.
    """
    content = read_checkpoint(path, trusted) if content is None else content
    key = "ema_state" if averaged and "ema_state" in content else "model"
    if averaged and key == "model":
        logger.warning("%s has no averaged weights (ema_state): its model's are taken", path)
    weights = content.pop(key)
    if not isinstance(weights, Mapping):
        raise InputError(f"checkpoint {path}: {key!r} is not a state dict")
    weights = _renamed(model, _tensors(weights), content)
    if classes is not None:
        trained = (content.get("metadata") or {}).get("classes")
        weights = carry_classes(model, weights, trained, classes)
    report = compare(model, weights)
    if not report.loaded:
        raise InputError(f"checkpoint {path} fits nothing in this model: {report.differences()}")
    if strict and not report:
        raise InputError(
            f"checkpoint {path} does not fit this model: {report.differences()}; is it of this "
            "config? (train_net.py --eval-only --allow-partial scores what fits)"
        )
    model.load_state_dict({name: weights[name] for name in report.loaded}, strict=False)
    _log(path, report)
    return report, content


def compare(model: nn.Module, weights: Mapping[str, Tensor]) -> LoadReport:
    """Compare a state dict with a model's, without changing either."""
    expected = model.state_dict()
    misshaped = {
        name: (tuple(weights[name].shape), tuple(tensor.shape))
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    }
    loaded = [name for name in expected if name in weights and name not in misshaped]
    present = _with_aliases(model, {*loaded, *misshaped})
    return LoadReport(
        loaded=loaded,
        missing=_network(name for name in expected if name not in present),
        unexpected=_network(name for name in weights if name not in expected),
        misshaped=misshaped,
        total=len(expected),
    )


def _network(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith(IGNORED) and not name.endswith(COUNTERS)]


def _with_aliases(model: nn.Module, names: set[str]) -> set[str]:
    """Add the other names of the same tensors: many models register their heads twice."""
    aliases = defaultdict(set)
    for find in (model.named_parameters, model.named_buffers):
        for name, tensor in find(remove_duplicate=False):
            aliases[id(tensor)].add(name)
    return names.union(*(group for group in aliases.values() if group & names))


def _tensors(weights: Mapping) -> dict[str, Tensor]:
    return {
        name: torch.as_tensor(value) for name, value in weights.items() if hasattr(value, "shape")
    }


def _renamed(model: nn.Module, weights: dict[str, Tensor], content: dict) -> dict[str, Tensor]:
    """Bring the file's names to the model's."""
    expected = model.state_dict()
    if content.get("matching_heuristics"):
        caffe2 = content.get("__author__") == "Caffe2"
        return align_and_update_state_dicts(expected, weights, c2_conversion=caffe2)
    if weights and all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    if not expected.keys() & weights.keys():
        of_backbone = {f"backbone.{name}": value for name, value in weights.items()}
        if expected.keys() & of_backbone.keys():
            return of_backbone
    return weights


def _log(path: str | Path, report: LoadReport) -> None:
    logger.info("%s: %s", path, report.summary())
    for name, (file, model) in report.misshaped.items():
        logger.warning("%s not loaded: %s in the file, %s in the model", name, file, model)
    if report.missing or report.unexpected:
        logger.warning("%s: %s", path, report.differences())
