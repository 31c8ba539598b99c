"""The content of a checkpoint: finding its weights, and checking its types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detrex.utils.errors import InputError
from detrex.utils.small_files import is_a
from detrex.utils.text import first_few

# Keys of a model's weights; what else a checkpoint has is then not searched for weights.
_MODELS = ("model", "state_dict")
_METADATA = {
    "classes": (list[str], "a list of str"),
    "category_ids": (list[int], "a list of int"),
    "config": (str, "a text"),
}
_DEEPEST = 4  # levels of dicts around the weights


def checked_content(content: object, path: str | Path, size: int) -> dict:
    """Return a checkpoint's content as ``{"model": state dict, ...}``.

    The layouts of detectron2, its zoo, Caffe2 and others are recognised. ``model`` and
    ``ema_state``, if there is one, are dicts of dense tensors by name; ``classes``,
    ``category_ids`` and ``config`` of ``metadata`` have their types or are None.

    Args:
        content: of the file.
        path: the file's, for messages.
        size: bytes of the file; no tensor has more.

    Raises:
        InputError: no weights, or several state dicts, naming what there is; a value of another
            type, naming its key.
    """
    if not isinstance(content, dict):
        raise InputError(f"checkpoint {path} holds a {type(content).__name__}, not a state dict")
    blobs = content.get("blobs", content)
    if "model" not in content and isinstance(blobs, dict) and _is_of_caffe2(blobs, content):
        weights = {k: v for k, v in blobs.items() if not k.endswith("_momentum")}
        content = {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
    else:
        content = {**content, "model": _weights(content, path)}
    for key in {"model", "ema_state"} & content.keys():
        content[key] = _tensors(content[key], key, path, size)
    _check_metadata(content.get("metadata"), path)
    return content


def _is_of_caffe2(blobs: dict, content: dict) -> bool:
    arrays = any(isinstance(value, np.ndarray) for value in blobs.values())
    return (arrays or blobs is not content) and all(isinstance(name, str) for name in blobs)


def _weights(content: dict, path: str | Path) -> dict:
    """Return the only state dict in a file, whatever it is wrapped in."""
    first = [(content[key], key) for key in _MODELS if isinstance(content.get(key), Mapping)]
    searches = (dict(_state_dicts(*start, seen=set())) for start in (*first, (content, "")))
    states = next(filter(None, searches), {})
    if len(states) == 1:
        return next(iter(states.values()))
    holds = ", ".join(f"{key} ({len(state)} tensors)" for key, state in states.items())
    if states:
        raise InputError(
            f"checkpoint {path} holds weights in {len(states)} places: {holds}: save one of them "
            "as {'model': weights}"
        )
    inside = [f"{key!r:.60} ({type(value).__name__})" for key, value in content.items()]
    raise InputError(
        f"checkpoint {path} holds no weights: in it are {first_few(inside, 8) or 'no values'}"
    )


def _state_dicts(
    value: Mapping, path: str, seen: set[int], depth: int = _DEEPEST
) -> Iterator[tuple[str, dict]]:
    """Yield (key path such as ``ema.module``, dict) of the outermost dicts that are mostly tensors.

    A dict that occurs twice counts once. Dicts whose keys are numbers, such as an optimizer's
    state, are not searched.
    """
    if id(value) in seen:
        return
    seen.add(id(value))
    tensors = sum(isinstance(item, Tensor | np.ndarray) for item in value.values())
    if tensors and 2 * tensors >= len(value):
        yield path, value
    elif depth and all(isinstance(key, str) for key in value):
        for key, item in value.items():
            if isinstance(item, Mapping):
                inside = key if key.isprintable() else repr(key)
                yield from _state_dicts(item, f"{path}.{inside}".lstrip("."), seen, depth - 1)


def _tensors(weights: object, key: str, path: str | Path, size: int) -> dict[str, Tensor]:
    if not isinstance(weights, Mapping):
        kind = type(weights).__name__
        raise InputError(f"checkpoint {path}: {key} is a {kind}, not a state dict")
    tensors = {}
    for name, value in weights.items():
        if not isinstance(name, str) or not name.isprintable():
            raise InputError(f"checkpoint {path}: {key} has the name {name!r:.60}, not a text")
        if isinstance(value, Tensor | np.ndarray | np.generic):
            value = torch.as_tensor(value).detach()
            if odd := _oddity(value, size):
                raise InputError(f"checkpoint {path}: {key}: {name} is {odd}")
            tensors[name] = value
    return tensors


def _oddity(value: Tensor, size: int) -> str:
    """Return why a tensor cannot be weights, or ""."""
    if value.layout is not torch.strided or value.is_nested:
        return "a sparse or nested tensor: save value.to_dense()"
    if value.is_quantized:
        return "a quantized tensor: save value.dequantize()"
    if value.is_complex():
        return "a complex tensor"
    if value.device.type != "cpu":
        return f"a tensor on {value.device}, without values"
    if value.numel() * value.element_size() > size:
        return f"of shape {list(value.shape)}, more than the file holds"
    return ""


def _check_metadata(metadata: object, path: str | Path) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise InputError(f"checkpoint {path}: metadata is {_shown(metadata)}, not a dict")
    for key, (kind, name) in _METADATA.items():
        value = metadata.get(key)
        if value is not None and not is_a(value, kind):
            raise InputError(f"checkpoint {path}: metadata.{key} is {_shown(value)}, not {name}")


def _shown(value: object) -> str:
    if isinstance(value, bool | int | float):
        return repr(value)
    return f"a {type(value).__name__}"
