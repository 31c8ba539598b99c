"""Weights in the safetensors format, with the config and the classes as metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from detrex.utils.files import atomic_write
from detrex.utils.optional import need_package

_ABOUT = ("classes", "category_ids", "calibration")  # beside the config


def write_safetensors(
    model: nn.Module,
    path: Path,
    config: str,
    classes: Sequence[str] | None,
    category_ids: Sequence[int] | None = None,
    calibration: Mapping | None = None,
) -> None:
    """Write a model's weights.

    A tensor with several names in the model is written under the first one; loading sets the
    others, too.

    Args:
        model: the model.
        path: the file.
        config: its config as YAML.
        classes: names of its classes, if they are known.
        category_ids: their ids in the JSON of the data set, if they are known.
        calibration: maps of scores of tools/calibrate.py, if there are any.

    Raises:
        InputError: safetensors is not installed.
    """
    weights: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        weights.setdefault(id(tensor), (name, tensor.detach().cpu().contiguous()))
    about = dict(zip(_ABOUT, (classes, category_ids, calibration), strict=True))
    texts = {key: json.dumps(value) for key, value in about.items()}
    write_tensors(dict(weights.values()), path, {"config": config, **texts})


def write_tensors(
    tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, str] | None = None
) -> None:
    """Write tensors that share no memory, with ``about`` as metadata.

    Raises:
        InputError: safetensors is not installed.
    """
    need_package("safetensors", "detrex[export]")
    from safetensors.torch import save

    with atomic_write(path, "wb") as stream:
        stream.write(save(dict(tensors), {"format": "pt", **(about or {})}))


def read_safetensors(path: Path) -> dict:
    """Return ``{"model": state dict, "metadata": {"config": YAML, "classes": names,
    "category_ids": ids, "calibration": maps}}``; in a file of another program these are None.

    Raises:
        InputError: safetensors is not installed.
    """
    need_package("safetensors", "detrex[export]")
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}
        written = file.metadata() or {}
    about = {key: json.loads(written.get(key, "null")) for key in _ABOUT}
    return {"model": weights, "metadata": {"config": written.get("config"), **about}}
