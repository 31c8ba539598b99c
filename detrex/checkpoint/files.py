"""Checkpoint files: atomic writes, and reads that run no code from the file."""

from __future__ import annotations

import argparse
import codecs
import collections
import logging
import pickle
import typing
import zipfile
from pathlib import Path

import numpy as np
import omegaconf
import torch
from detectron2.utils.file_io import PathManager

from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.small_files import read_text
from detrex.utils.text import first_line

from .weights import read_safetensors

logger = logging.getLogger(__name__)
LAST = "last_checkpoint"

_MORE_THAN_DATA = "holds more than data (--trust-checkpoint of train_net.py runs its code)"

# What numpy pickles by: arrays, scalars, and arrays in protocol 5; under both package names.
_NUMPY = {
    f"{package}.{name}": function
    for package in ("numpy.core", "numpy._core")
    for name, function in (
        ("multiarray._reconstruct", np.ndarray(0).__reduce__()[0]),
        ("multiarray.scalar", np.float64(0).__reduce__()[0]),
        ("numeric._frombuffer", np.ndarray(0).__reduce_ex__(5)[0]),
    )
}
_PICKLED = {
    **_NUMPY,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "collections.OrderedDict": collections.OrderedDict,
    "_codecs.encode": codecs.encode,  # how old protocols write bytes
}
# Upstream's optimizer states hold omegaconf lists and numpy values: containers, without behaviour.
_SAFE_IN_TORCH = [
    omegaconf.listconfig.ListConfig,
    omegaconf.dictconfig.DictConfig,
    omegaconf.base.ContainerMetadata,
    omegaconf.base.Metadata,
    omegaconf.nodes.AnyNode,
    typing.Any,
    collections.defaultdict,
    argparse.Namespace,  # DETR and its descendants save their command line
    dict,
    list,
    int,
    np.dtype,
    np.ndarray,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "bool")),
    *((function, name) for name, function in _NUMPY.items()),
]


def save_checkpoint(data: dict, path: Path) -> None:
    """Write a checkpoint atomically."""
    with atomic_write(path, "wb") as stream:
        torch.save(data, stream)


def tag_last_checkpoint(path: Path) -> None:
    """Name the file that ``--resume`` continues from."""
    with atomic_write(path.parent / LAST) as stream:
        stream.write(path.name)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the file that the folder's ``last_checkpoint`` names; None without one, or, with a
    warning, if it is damaged."""
    tag = folder / LAST
    if not tag.exists():
        return None
    try:
        name = Path(read_text(tag, 4096).strip()).name
        if Path(name).suffix != ".pth" or not name.isprintable():
            raise InputError(f"{tag}: names no checkpoint: {name!r:.40}")
    except InputError as error:
        logger.warning("%s: looking for the newest checkpoint", error)
        return None
    return folder / name


def check_archive(path: Path) -> None:
    """Compare every byte of a torch file with its checksum, which ``torch.load`` does not do.

    Raises:
        InputError: a truncated or otherwise damaged file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # damaged headers raise many types
        raise InputError(f"checkpoint {path} is damaged: {_reason(error)}") from error
    if damaged is not None:
        raise InputError(f"checkpoint {path} is damaged: {damaged} does not match its checksum")


def read_checkpoint(path: str | Path, trusted: bool = False) -> dict:
    """Read a checkpoint onto the CPU.

    Args:
        path: a file or a URL that detectron2 knows: ``.pth`` of torch, ``.pkl`` of detectron2's
            zoo (numpy arrays, plain containers), ``.safetensors``.
        trusted: read it as a pickle of anything, which runs the code that it holds.

    Returns:
        The file's content; a file that is just a state dict comes back as ``{"model": ...}``.

    Raises:
        InputError: no such file, or one that is damaged or holds other things than data.
    """
    local = _local_path(str(path))
    try:
        content = (
            _read_trusted(local) if trusted else _READERS.get(local.suffix, _read_torch)(local)
        )
    except InputError:
        raise
    except Exception as error:  # torch and pickle raise many types for a damaged file
        raise InputError(f"checkpoint {path} cannot be read: {_reason(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"checkpoint {path} holds a {type(content).__name__}, not a state dict")
    return _with_model(content)


def _reason(error: Exception) -> str:
    """What went wrong, without torch's advice to unpickle the file as code."""
    message = first_line(error)
    if not message or message.startswith("Weights only load failed"):
        return f"it is damaged, no checkpoint, or {_MORE_THAN_DATA}"
    return message


def _local_path(path: str) -> Path:
    try:
        local = Path(PathManager.get_local_path(path))
    except Exception as error:  # whatever the network or the handler raises
        raise InputError(f"checkpoint {path} cannot be fetched: {error}") from error
    return existing_checkpoint(local)


def existing_checkpoint(path: str | Path) -> Path:
    """Return the path of a local file.

    Raises:
        InputError: there is none; names one in a folder.
    """
    path = Path(path)
    if path.is_dir():
        inside = [p for p in path.iterdir() if p.suffix in (".pth", *_READERS)]
        best = max(inside, key=lambda p: (p.stem == "model_final", p.name), default=None)
        hint = best or "there is no .pth, .pkl or .safetensors in it"
        raise InputError(f"checkpoint {path} is a folder: name a file in it: {hint}")
    if not path.is_file():
        raise InputError(f"checkpoint {path} not found")
    return path


def _read_torch(path: Path) -> dict:
    if zipfile.is_zipfile(path):  # older formats have no checksums
        check_archive(path)
    with torch.serialization.safe_globals(_SAFE_IN_TORCH):
        return torch.load(path, map_location="cpu", weights_only=True)


class _DataUnpickler(pickle.Unpickler):
    """Builds numpy arrays and plain containers, nothing else."""

    def find_class(self, module: str, name: str) -> object:
        full_name = f"{module}.{name}"
        if full_name not in _PICKLED:
            raise pickle.UnpicklingError(f"it refers to {full_name}: {_MORE_THAN_DATA}")
        return _PICKLED[full_name]


def _read_pickle(path: Path) -> dict:
    with path.open("rb") as stream:
        return _DataUnpickler(stream, encoding="latin1").load()


def _read_trusted(path: Path) -> dict:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    logger.warning("checkpoint %s is trusted: unpickling it runs whatever code it holds", path)
    if path.suffix != ".pkl":
        return torch.load(path, map_location="cpu", weights_only=False)
    with path.open("rb") as stream:
        return pickle.load(stream, encoding="latin1")


_READERS = {".pkl": _read_pickle, ".safetensors": read_safetensors}


def _with_model(content: dict) -> dict:
    """Bring the layouts of detectron2, its zoo, Caffe2 and others to ``{"model": state dict}``."""
    if "model" in content:
        return content
    if "state_dict" in content:
        return {**content, "model": content["state_dict"]}
    if any(isinstance(value, np.ndarray) for value in content.values()) or "blobs" in content:
        blobs = content.get("blobs", content)
        weights = {k: v for k, v in blobs.items() if not k.endswith("_momentum")}
        return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
    return {"model": content}
