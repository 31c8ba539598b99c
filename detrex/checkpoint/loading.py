"""Loading weights into a model, with a report of what fits and what does not."""

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
from .queries import carry_queries

logger = logging.getLogger(__name__)
# Constants of the loss, and counters that nothing reads; many files lack them.
IGNORED, COUNTERS = "criterion.", "num_batches_tracked"
# Wrappers of modules in names; "module" only in front, where no model of ours has it.
_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+|\b_orig_mod\.|\b_fsdp_wrapped_module\.")


@dataclass(frozen=True)
class LoadReport:
    """What happened to every tensor.

    Attributes:
        loaded: names that were loaded.
        missing: the model's names that the file lacks, under aliases too.
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
        modules = Counter(name.split(".")[0] for name in self.loaded)
        groups = ", ".join(f"{module} {count}" for module, count in modules.items())
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

    Accepts checkpoints of this project, of upstream and of detectron2's zoo, state dicts plain or
    wrapped, weights of a backbone alone, and names after "module." or "_orig_mod." (DDP,
    torch.compile) or after the name of a submodule ("teacher."), if only one has the model's names.

    Args:
        model: changed in place; untouched if an error is raised.
        path: file or URL.
        strict: require that file and model agree; else load what fits, and of queries those that
            both have.
        averaged: load the averaged weights; a file without them gives, with a warning, the model's.
        trusted: unpickle the file without checks, which runs the code that it holds.
        classes: the model's class names; the file's class weights are carried over by name.
        content: of the file, if it has been read; its weights are removed.
        finite: refuse weights that are NaN or infinite where the model's are not.

    Returns:
        The report, and the rest of the file's content.

    Raises:
        InputError: an unreadable file; one of which nothing fits or, with ``strict``, not
            everything; NaN weights, which predict nothing.
    """
    content = read_checkpoint(path, trusted) if content is None else content
    key = "ema_state" if averaged and "ema_state" in content else "model"
    if averaged and key == "model":
        logger.warning("%s has no averaged weights (ema_state): its model's are taken", path)
    try:
        weights = _renamed(model, content.pop(key), content)
    except InputError as error:
        raise InputError(f"checkpoint {path} {error}") from None
    if not strict:
        weights = carry_queries(model, weights)
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


def _renamed(model: nn.Module, weights: dict[str, Tensor], content: dict) -> dict[str, Tensor]:
    """Return the file's weights by the model's names."""
    expected = model.state_dict()
    if content.get("matching_heuristics"):
        caffe2 = content.get("__author__") == "Caffe2"
        return align_and_update_state_dicts(expected, weights, c2_conversion=caffe2)
    weights = {_WRAPPERS.sub("", name): value for name, value in weights.items()}
    of_backbone = {f"backbone.{name}": value for name, value in weights.items()}
    for names in (weights, of_backbone):
        if expected.keys() & names.keys():
            return names
    of_network = _of_network(weights, model)
    return of_network or _of_submodule(weights, expected)


def _of_network(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return the weights by the names of the network inside the backbone (a ViT under a pyramid,
    timm's model) that has most of them; empty if none has half of them."""
    for path, module in model.named_modules():
        if path.startswith("backbone.") and _most(weights, module.state_dict()):
            logger.info("its names are taken as those of %s", path)
            return {f"{path}.{name}": value for name, value in weights.items()}
    return {}


def _most(names: Mapping, expected: Mapping) -> bool:
    """Whether the model has at least half of the names; a few are alike by chance."""
    return len(expected.keys() & names.keys()) * 2 >= len(names)


def _of_submodule(weights: dict[str, Tensor], expected: Mapping) -> dict[str, Tensor]:
    """Return the weights of the submodule, such as "teacher", that has the model's names; all
    weights if none has.

    Raises:
        InputError: several submodules have them.
    """
    for depth in (1, 2, 3):
        submodules = defaultdict(dict)
        for name, value in weights.items():
            *path, rest = name.split(".", depth)
            if len(path) == depth:
                submodules[".".join(path)][rest] = value
        fitting = [(name, state) for name, state in submodules.items() if _most(state, expected)]
        if len(fitting) > 1:
            names = ", ".join(name for name, _ in fitting)
            raise InputError(f"has the model's names under {names}: save one of them")
        if fitting:
            logger.info("of its names those that begin with %s. are taken", fitting[0][0])
            return fitting[0][1]
    return weights


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


def _with_aliases(model: nn.Module, names: set[str]) -> set[str]:
    """Add the other names of the same tensors; many models register their heads twice."""
    aliases = defaultdict(set)
    for find in (model.named_parameters, model.named_buffers):
        for name, tensor in find(remove_duplicate=False):
            aliases[id(tensor)].add(name)
    return names.union(*(group for group in aliases.values() if group & names))


def _network(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith(IGNORED) and not name.endswith(COUNTERS)]


def refuse_non_finite(model: nn.Module, weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Check that weights are infinite or NaN only where the model's are.

    Raises:
        InputError: naming the first tensor that breaks this.
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
