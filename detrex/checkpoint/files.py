"""Checkpoint files: atomic writes, and reads that run no code from the file."""

from __future__ import annotations

import io
import logging
import mmap
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from detectron2.utils.file_io import PathManager

from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.small_files import read_text
from detrex.utils.text import first_line

from .content import checked_content
from .pickles import MORE_THAN_DATA, RECORDS, check_nesting, plain, read_pickle
from .weights import read_safetensors
from .zoo import download

logger = logging.getLogger(__name__)
LAST = "last_checkpoint"
_SUFFIXES = (".pth", ".pkl", ".safetensors")

# Beside tensors, which torch reads itself.
_SAFE_IN_TORCH = [(record, name) for name, record in RECORDS.items()]
# First bytes of files that are often saved as a checkpoint but are none.
_BEGINNINGS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: run git lfs pull",
    b"<": "a web page (HTML), not the file itself: download the file from its page",
    b"{": "JSON text: give the file of the weights",
    b"PK\x03\x04": "cut off: the end of the file is missing",
    b"\x1f\x8b": "a compressed archive (gzip): unpack it",
    b"7z": "a compressed archive (7z): unpack it",
    b"Rar!": "a compressed archive (rar): unpack it",
    b"\x89HDF": "an HDF5 file, of Keras or MATLAB: its weights must be converted first",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
}


def save_checkpoint(data: dict, path: Path) -> None:
    """Write a checkpoint atomically."""
    with atomic_write(path, "wb") as stream:
        torch.save(data, stream)


def tag_last_checkpoint(path: Path) -> None:
    """Write the name of the file from which ``--resume`` continues."""
    with atomic_write(path.parent / LAST) as stream:
        stream.write(path.name)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the file that a folder's ``last_checkpoint`` names; None if there is none or, with a
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


def read_checkpoint(path: str | Path, trusted: bool = False) -> dict:
    """Read a checkpoint onto the CPU.

    Args:
        path: a file, or an address (zoo://NAME, https://, another of detectron2's): ``.pth`` of
            torch, ``.pkl`` of detectron2's zoo (numpy arrays in plain containers),
            ``.safetensors``.
        trusted: unpickle it without checks, which runs the code that it holds.

    Returns:
        The content, after :func:`~.content.checked_content`: the weights are ``model``.

    Raises:
        InputError: no such file; or it is damaged, holds more than data, no weights or several
            state dicts. One line names the file and the key.
    """
    local = _local_path(str(path))
    try:
        content = _read_trusted(local) if trusted else _reader(local)(local)
    except InputError:
        raise
    except Exception as error:  # torch and pickle raise many types for a damaged file
        raise InputError(f"checkpoint {path} cannot be read: {_reason(error)}") from error
    return checked_content(content, path, local.stat().st_size)


def _local_path(path: str) -> Path:
    web = path.lower().startswith(("http://", "https://", "ftp://"))
    try:
        local = download(path) if web else Path(PathManager.get_local_path(path))
    except InputError:
        raise
    except Exception as error:  # whatever the network or the handler raises
        raise InputError(
            f"checkpoint {path} cannot be fetched ({first_line(error)}): name a file that is here "
            "(train.init_checkpoint=FILE), or none to train from random weights "
            "(train.init_checkpoint=)"
        ) from error
    return existing_checkpoint(local)


def existing_checkpoint(path: str | Path) -> Path:
    """Return the path of a local file that can be opened.

    Raises:
        InputError: there is no such file, or it may not be read. Of a folder it names a file in it.
    """
    path = Path(path)
    if path.is_dir():
        inside = [p for p in path.iterdir() if p.suffix in _SUFFIXES]
        best = max(inside, key=lambda p: (p.stem == "model_final", p.name), default=None)
        hint = best or "there is no .pth, .pkl or .safetensors in it"
        raise InputError(f"checkpoint {path} is a folder: name a file in it: {hint}")
    if not path.is_file():
        kind = "is no regular file" if path.exists() else "not found"
        raise InputError(f"checkpoint {path} {kind}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"checkpoint {path} cannot be opened: {error.strerror}") from None
    return path


def _reader(path: Path) -> Callable[[Path], object]:
    """Return the reader of a file, by its first bytes: its ending may be wrong.

    Raises:
        InputError: a file that is no checkpoint, saying what it is.
    """
    with path.open("rb") as stream:
        start = stream.read(64)
    if not start:
        raise InputError(f"checkpoint {path} is empty: it has 0 bytes")
    if zipfile.is_zipfile(path):
        return _read_archive
    for beginning, kind in _BEGINNINGS.items():
        if start.lstrip(b"\xef\xbb\xbf \r\n").startswith(beginning):
            raise InputError(f"checkpoint {path} is {kind}")
    named = start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size
    if named or path.suffix == ".safetensors":
        return read_safetensors
    return read_pickle if path.suffix == ".pkl" else _read_old_torch


def _read_archive(path: Path) -> object:
    check_archive(path)
    with zipfile.ZipFile(path) as archive:
        pickles = [n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl"]
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise InputError(f"checkpoint {path} is a TorchScript program, not a state dict")
        if len(pickles) != 1:
            raise InputError(f"checkpoint {path} is an archive, but not torch's: unpack it")
        check_nesting(io.BytesIO(archive.read(pickles[0])))
    return _read_torch(path)


def check_archive(path: Path) -> None:
    """Compare every byte of a torch file with its checksums, which ``torch.load`` does not do.

    Raises:
        InputError: a file that cannot be opened, is truncated or otherwise damaged, or is
            compressed, which torch's files never are.
    """
    existing_checkpoint(path)
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
            damaged = None if claimed > path.stat().st_size else archive.testzip()
    except Exception as error:  # damaged headers raise many types
        raise InputError(f"checkpoint {path} is damaged: {_reason(error)}") from error
    if claimed > path.stat().st_size:
        raise InputError(
            f"checkpoint {path} unpacks to {claimed} bytes, more than it has: it is not torch's"
        )
    if damaged is not None:
        raise InputError(f"checkpoint {path} is damaged: {damaged} does not match its checksum")


def _read_old_torch(path: Path) -> object:
    """Read a file of torch before 1.6: five pickles, then the tensors' bytes; no checksums."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        for _ in range(5):
            check_nesting(stream)
    return _read_torch(path)


def _read_torch(path: Path) -> object:
    with torch.serialization.safe_globals(_SAFE_IN_TORCH), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plain(torch.load(path, map_location="cpu", weights_only=True))


def _read_trusted(path: Path) -> object:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    logger.warning("checkpoint %s is trusted: unpickling it runs whatever code it holds", path)
    if path.suffix != ".pkl":
        return torch.load(path, map_location="cpu", weights_only=False)
    with path.open("rb") as stream:
        return pickle.load(stream, encoding="latin1")


def _reason(error: Exception) -> str:
    """Return what went wrong, without torch's advice to unpickle the file as code."""
    if isinstance(error, IndexError):  # a pickle pops more values than it has pushed
        return "it is damaged, or no checkpoint"
    if isinstance(error, RecursionError):
        return "its values are nested too deeply"
    message = first_line(error)
    if not message or message.startswith("Weights only load failed"):
        named = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        return (
            f"it refers to {named[1]}: {MORE_THAN_DATA}"
            if named
            else f"it is damaged, no checkpoint, or {MORE_THAN_DATA}"
        )
    return message
