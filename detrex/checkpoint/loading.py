"""Putting weights into a model, with an account of what fitted and what did not."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import Tensor, nn

from detrex.utils.errors import InputError
from detrex.utils.text import first_few

from .classes import carry_classes
from .files import read_checkpoint

logger = logging.getLogger(__name__)
# Constants of the loss, and counters that nothing reads: absent in many files.
IGNORED, COUNTERS = "criterion.", "num_batches_tracked"
# What wrappers of modules put into names; "module" only in front, where no model of ours has it.
_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+|\b_orig_mod\.|\b_fsdp_wrapped_module\.")


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
    finite: bool = True,
) -> tuple[LoadReport, dict]:
    """Load a checkpoint's weights into a model.

    Accepts this project's and upstream's checkpoints, state dicts plain and wrapped, names behind
    "module." and "_orig_mod." (DDP, torch.compile) or behind the name of the one part that fits
    ("teacher."), detectron2's zoo, and the weights of a backbone alone.

    Args:
        model: changed in place; untouched if an error is raised.
        path: file or URL.
        strict: require that file and model agree; else load what fits.
        averaged: take the averaged weights; of a file that has none, with a warning, the model's.
        trusted: run the code that the file may hold.
        classes: what the model is to tell apart; the file's class weights are taken over by name.
        content: of the file, where it has been read; its weights are removed.
        finite: refuse weights that are NaN or infinite where the model's initial ones are not.

    Returns:
        The report, and the file's other content.

    Raises:
        InputError: an unreadable file, one that fits nothing, or with ``strict`` not everything;
            NaN weights, which predict nothing.
    """
    content = read_checkpoint(path, trusted) if content is None else content
    key = "ema_state" if averaged and "ema_state" in content else "model"
    if averaged and key == "model":
        logger.warning("%s has no averaged weights (ema_state): its model's are taken", path)
    try:
        weights = _renamed(model, content.pop(key), content)
    except InputError as error:
        raise InputError(f"checkpoint {path} {error}") from None
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
    fitting = {name: weights[name] for name in report.loaded}
    if finite:
        refuse_non_finite(model, fitting, path)
    model.load_state_dict(fitting, strict=False)
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


def _renamed(model: nn.Module, weights: dict[str, Tensor], content: dict) -> dict[str, Tensor]:
    """Bring the file's names to the model's."""
    expected = model.state_dict()
    if content.get("matching_heuristics"):
        caffe2 = content.get("__author__") == "Caffe2"
        return align_and_update_state_dicts(expected, weights, c2_conversion=caffe2)
    weights = {_WRAPPERS.sub("", name): value for name, value in weights.items()}
    of_backbone = {f"backbone.{name}": value for name, value in weights.items()}
    for names in (weights, of_backbone):
        if expected.keys() & names.keys():
            return names
    return _of_one_part(weights, expected)


def _of_one_part(weights: dict[str, Tensor], expected: Mapping) -> dict[str, Tensor]:
    """Of names such as "teacher.neck.bias" those of the one part that has the model's names.

    Raises:
        InputError: several parts have them.
    """
    for depth in (1, 2, 3):
        parts = defaultdict(dict)
        for name, value in weights.items():
            *first, rest = name.split(".", depth)
            if len(first) == depth:
                parts[".".join(first)][rest] = value
        # Half of its names: two models may share a few by chance.
        fitting = {
            n: part for n, part in parts.items() if len(expected.keys() & part) * 2 >= len(part)
        }
        if len(fitting) > 1:
            raise InputError(f"has the model's names under {', '.join(fitting)}: save one of them")
        if fitting:
            ((name, part),) = fitting.items()
            logger.info("of its names those that begin with %s. are taken", name)
            return part
    return weights


def refuse_non_finite(model: nn.Module, weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Weights may be infinite or NaN only where the model's own are.

    Raises:
        InputError: names the first that is not.
    """
    expected = model.state_dict()
    for name, value in weights.items():
        bad = ~value.isfinite()
        if bad.any() and (count := int((bad & expected[name].to(bad.device).isfinite()).sum())):
            raise InputError(
                f"checkpoint {path}: {name} has {count} values of {value.numel()} that are NaN or "
                "infinite: nothing can be predicted with them; take another checkpoint"
            )


def _log(path: str | Path, report: LoadReport) -> None:
    logger.info("%s: %s", path, report.summary())
    for name, (file, model) in report.misshaped.items():
        logger.warning("%s not loaded: %s in the file, %s in the model", name, file, model)
    if report.missing or report.unexpected:
        logger.warning("%s: %s", path, report.differences())
