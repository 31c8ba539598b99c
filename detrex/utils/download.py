"""Large files from the web: continued where they broke off, checked, one process at a time."""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from iopath.common.file_io import file_lock
from tqdm import tqdm

from detrex.utils.errors import InputError

TIMEOUT = 60  # seconds without a byte
_PIECE = 1 << 20


def fetch(address: str, target: Path, size: int | None = None, sha256: str = "") -> Path:
    """Download a file unless it is here; return its path.

    What an interrupted download left, ``target`` with ".part", is continued if the server says
    that the file has not changed. Processes that want the same file wait for the first.

    Args:
        address: http, https or ftp.
        target: its folder is made.
        size: bytes that the file must have, if known.
        sha256: its checksum in hexadecimal digits; empty if not known.

    Raises:
        InputError: there is no such file, or it is not the one that was published.
        OSError: network or disk failed; what has come is kept.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(str(target)):
        if not target.is_file():
            part = Path(f"{target}.part")
            _continue(address, part)
            try:
                _check(address, part, size, sha256)
            except InputError:
                part.unlink()
                raise
            part.replace(target)
    return target


def _continue(address: str, part: Path) -> None:
    """Fetch what ``part`` lacks of the file."""
    version = Path(f"{part}.version")  # by it the server knows whether the file has changed
    start = part.stat().st_size if part.is_file() and version.is_file() else 0
    headers = {"User-Agent": "detrex"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version.read_text()}
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            continued = answer.status == 206  # None of an ftp server
            known = answer.headers.get("ETag", "") or answer.headers.get("Last-Modified", "")
            if known and not known.startswith("W/"):  # a weak one does not tell bytes apart
                version.write_text(known)
            else:
                version.unlink(missing_ok=True)
            with part.open("ab" if continued else "wb") as stream:
                _copy(answer, stream, start if continued else 0)
    except urllib.error.HTTPError as error:
        if start and error.code == 416:  # it had come whole, or is shorter now: from the start
            part.unlink()
            return _continue(address, part)
        if error.code in (404, 410):
            raise InputError(f"{address}: there is no such file (any more)") from None
        raise
    version.unlink(missing_ok=True)


def _copy(answer: IO[bytes], stream: IO[bytes], start: int) -> None:
    """Copy an answer to a file whose first ``start`` bytes are there.

    Raises:
        OSError: the connection broke off.
    """
    length = answer.headers.get("Content-Length")
    total = start + int(length) if length else None
    name = os.path.basename(stream.name).removesuffix(".part")
    shown = {"unit": "B", "unit_scale": True, "desc": name, "disable": not sys.stderr.isatty()}
    with tqdm(total=total, initial=start, **shown) as bar:
        while piece := answer.read(_PIECE):
            stream.write(piece)
            bar.update(len(piece))
    if total is not None and stream.tell() < total:
        raise OSError(f"broke off after {stream.tell()} of {total} bytes: try again to continue")


def _check(address: str, path: Path, size: int | None, sha256: str) -> None:
    length = path.stat().st_size
    if size is not None and length != size:
        raise InputError(f"{address}: has {length} bytes, the published file {size}")
    if not length:
        raise InputError(f"{address}: is empty")
    if sha256:
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
        if digest.hexdigest() != sha256:
            raise InputError(
                f"{address}: its SHA-256 is {digest.hexdigest()}, the published file's {sha256}"
            )
