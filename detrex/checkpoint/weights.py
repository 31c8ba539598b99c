"""Weights in the safetensors format, with what is needed to use them in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from detrex.utils.files import atomic_write
from detrex.utils.optional import need_package


def write_safetensors(
    model: nn.Module,
    path: Path,
    config: str,
    classes: Sequence[str] | None,
    category_ids: Sequence[int] | None = None,
) -> None:
    """Write a model's weights, with its config (YAML), its classes' names and their numbers in the
    data set's JSON as metadata.

    A tensor that the model has under several names is written under the first one only, by which
    loading finds the others.

    Raises:
        InputError: safetensors is not installed.
    """
    weights: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        weights.setdefault(id(tensor), (name, tensor.detach().cpu().contiguous()))
    about = {"config": config, "classes": json.dumps(classes)}
    about["category_ids"] = json.dumps(category_ids)
    write_tensors(dict(weights.values()), path, about)


def write_tensors(
    tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, str] | None = None
) -> None:
    """Write tensors, none of which shares its memory, with ``about`` as metadata.

    Raises:
        InputError: safetensors is not installed.
    """
    need_package("safetensors", "detrex[export]")
    from safetensors.torch import save

    with atomic_write(path, "wb") as stream:
        stream.write(save(dict(tensors), {"format": "pt", **(about or {})}))


def read_safetensors(path: Path) -> dict:
    """Return ``{"model": state dict, "metadata": {"config": YAML, "classes": names,
    "category_ids": numbers}}``; the last three are None in a file of other origin.

    Raises:
        InputError: safetensors is not installed.
    """
    need_package("safetensors", "detrex[export]")
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}
        written = file.metadata() or {}
    about = {key: json.loads(written.get(key, "null")) for key in ("classes", "category_ids")}
    return {"model": weights, "metadata": {"config": written.get("config"), **about}}
