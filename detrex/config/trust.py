"""Which config files are data, and which are code that the user must trust.

A Python config is code. A YAML config is data as long as it names only classes and functions that
detectors and recipes consist of, in the packages below. Other code that it names runs only with
``--trust-config``, or if a run of this user has written the same file, byte for byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import logging
import os
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import yaml
from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from detrex.utils.errors import InputError
from detrex.utils.safe_yaml import DEEPEST, MOST, read_yaml
from detrex.utils.small_files import read_text
from detrex.utils.text import first_line, printable

logger = logging.getLogger(__name__)
LONGEST = 20  # seconds that following a config's references may take; usual are 0.1
_PACKAGES = (
    *("detrex.", "projects.", "aligndetr.", "timm.", "torchvision.", "detectron2.", "fvcore."),
    *("torch.nn.", "torch.optim."),
)
# Classes of these kinds, by the name that each has where it is defined.
_KINDS = {
    "torch.nn.modules.module.Module",
    "torch.optim.optimizer.Optimizer",
    "fvcore.common.param_scheduler.ParamScheduler",
    "fvcore.transforms.transform.Transform",
    "detectron2.data.transforms.augmentation.Augmentation",
    "detectron2.evaluation.evaluator.DatasetEvaluator",
    "detectron2.layers.shape_spec.ShapeSpec",
    "detrex.data.mapper.DetrDatasetMapper",
    "detrex.data.multi_image.Mosaic",
    "detrex.data.multi_image.PairTransform",
    "detrex.data.windows.Window",
}
_FUNCTIONS = {
    "detectron2.data.build.build_detection_test_loader",
    "detectron2.data.build.get_detection_dataset_dicts",
    "detectron2.modeling.backbone.resnet.ResNet.make_default_stages",
    "detectron2.modeling.backbone.resnet.ResNet.make_stage",
    "detectron2.modeling.backbone.vit.get_vit_lr_decay_rate",
    "detectron2.solver.build.get_default_optimizer_params",
    "detrex.compat.backbone.get_vit_lr_decay_rate",
    "detrex.data.joined.registered_records",
    "detrex.data.loader.build_train_loader",
    "detrex.train.optim.param_groups",
    "detrex.train.param_groups",  # as configs of runs name it
    "detrex.modeling.backbone.resnet.make_stage",
    "projects.rt_detr.modeling.resnet_vd.make_vd_stages",
}
_NAME = re.compile(r"\w+(\.\w+)+")
_REFERENCE = re.compile(r"\$\{[\w.]+\}")  # to a key: no resolver, which may read the environment
_TAG = "tag:yaml.org,2002:python/"


def load_yaml(path: Path, trusted: bool = False) -> DictConfig:
    """Read a YAML config.

    Args:
        path: of the file, up to 1 MiB.
        trusted: run the code that it names, whatever it is.

    Raises:
        InputError: the file is damaged, too large, or names code that is not trusted.
    """
    text = read_text(path)
    read_yaml(path)  # raises for what is damaged, or grows without bounds
    try:
        return _known_parts(text)
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        reason = first_line(getattr(error, "problem", None) or error)
    if not trusted and not is_remembered(text):
        raise InputError(
            f"config file {path} names code outside of detrex and its libraries ({reason}): "
            "--trust-config runs it; give it if you know who wrote the file"
        )
    if trusted:
        logger.warning("%s names code that will run: %s", path, printable(reason))
    return OmegaConf.create(yaml.unsafe_load(text), flags={"allow_objects": True})


def remember(text: str) -> None:
    """Note that a run of this user has written a config, so that its code is trusted.

    The note is in the user's state folder, not beside the config, so that it cannot come with a
    folder from elsewhere. If it cannot be written, the config will need ``--trust-config``.
    """
    with contextlib.suppress(OSError, RuntimeError):
        note = _note(text)
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        note.touch()


def is_remembered(text: str) -> bool:
    """Whether :func:`remember` was called with this text."""
    with contextlib.suppress(OSError, RuntimeError):
        return _note(text).is_file()
    return False


def _note(text: str) -> Path:
    """Raises RuntimeError for a user without a home folder."""
    state = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    return Path(state) / "detrex" / "configs" / hashlib.sha256(text.encode()).hexdigest()


class _ConfigLoader(yaml.SafeLoader):
    """Knows three of Python's tags: tuples, names of classes that are known parts, and partial
    calls of these with values that are data."""


def _named(loader: yaml.Loader, name: str, node: yaml.Node) -> object:
    if not _is_known(name):
        raise yaml.YAMLError(f"!!python/name:{name}")
    return locate(name)


def _tuple(loader: yaml.Loader, node: yaml.Node) -> list:
    return loader.construct_sequence(node, deep=True)


def _partial(loader: yaml.Loader, node: yaml.Node) -> partial:
    try:
        function, arguments, keywords, _ = loader.construct_mapping(node, deep=True)["state"]
        return partial(function, *arguments, **keywords)
    except (KeyError, TypeError, ValueError) as error:
        raise yaml.YAMLError(f"functools.partial: {error}") from None


_ConfigLoader.add_multi_constructor(f"{_TAG}name:", _named)
_ConfigLoader.add_constructor(f"{_TAG}object/apply:functools.partial", _partial)
_ConfigLoader.add_constructor(f"{_TAG}tuple", _tuple)


def _known_parts(text: str) -> DictConfig:
    """Return the config, if it is data; else raise YAMLError, or one of OmegaConf's, with why."""
    content = yaml.load(text, _ConfigLoader)
    for value in _texts(content):
        if "${" in value and not _REFERENCE.fullmatch(value):
            raise yaml.YAMLError(value)
    cfg = OmegaConf.create(content or {}, flags={"allow_objects": True})
    if (target := next(_foreign_targets(cfg), None)) is not None:
        raise yaml.YAMLError(target)
    return cfg


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _texts(item)


def _foreign_targets(cfg: DictConfig) -> Iterator[str]:
    """Yield the targets that are not known parts; also that following references does not end."""
    waiting, count, end = [("", cfg, 0)], 0, time.monotonic() + LONGEST
    while waiting:
        prefix, node, depth = waiting.pop()
        for key in node if isinstance(node, DictConfig) else range(len(node)):
            name, count = f"{prefix}{key}", count + 1
            try:
                value = node[key]
            except InterpolationKeyError:  # a key that defaults will add, and none of this file's
                value = None
            if key == "_target_" and not _is_known(value):
                yield f"{name}: {value}"
            if isinstance(value, DictConfig | ListConfig):
                waiting.append((f"{name}.", value, depth + 1))
            if count > MOST or depth > DEEPEST or time.monotonic() > end:
                yield f"{name}: references without an end"


def _is_known(target: object) -> bool:
    """Whether a name is that of a class or function that detectors and recipes are made of.

    What counts is where the object is defined, not how it is called: other modules can be reached
    through those of detrex.
    """
    if not isinstance(target, str) or not _NAME.fullmatch(target):
        return False
    if not target.startswith(_PACKAGES):
        return False
    if target in _FUNCTIONS:  # without importing it: a predictor needs no optimizer
        return True
    try:
        target = locate(target)
    except Exception:  # whatever the import of a module raises
        return False
    if not inspect.isclass(target):
        return _defined(target) in _FUNCTIONS
    known = any(_defined(kind) in _KINDS for kind in target.__mro__)
    return known and target.__module__.startswith(_PACKAGES)


def _defined(target: object) -> str:
    return f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', '')}"
