"""Published checkpoints by name: ``zoo://rank_detr_r50_12ep``, for every place that takes a file.

``zoo.yaml`` is the table. A name is an address of detectron2's ``PathManager``.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from detectron2.utils.file_io import PathHandler, PathManager
from iopath.common.file_io import get_cache_dir

from detrex.config.models import ROOT
from detrex.utils.download import fetch
from detrex.utils.errors import InputError

PREFIX = "zoo://"


@dataclass(frozen=True)
class ZooEntry:
    """A published checkpoint.

    Attributes:
        config: the config of its model, from the repository's root.
        address: where it was published.
        size: of the file in bytes; None if not known.
        sha256: its checksum in hexadecimal digits; empty if not known.
    """

    config: str
    address: str
    size: int | None = None
    sha256: str = ""

    @property
    def config_file(self) -> Path:
        """The config's path, which is there in a checkout of the repository."""
        return ROOT / self.config


@cache
def zoo() -> dict[str, ZooEntry]:
    """The published checkpoints by name."""
    table = yaml.safe_load(Path(__file__).with_name("zoo.yaml").read_text(encoding="utf-8"))
    return {name: ZooEntry(**entry) for name, entry in table.items()}


def zoo_entry(name: str) -> ZooEntry:
    """The checkpoint that ``zoo://NAME`` names.

    Raises:
        InputError: there is none; names the nearest.
    """
    name = name.removeprefix(PREFIX)
    if name not in zoo():
        near = difflib.get_close_matches(name, zoo(), 3, 0.4)
        raise InputError(f"{PREFIX}{name}: the zoo has no such checkpoint; near it: {near}")
    return zoo()[name]


def download(address: str, size: int | None = None, sha256: str = "") -> Path:
    """Fetch a file into the cache, whose key is the whole address; return its path.

    iopath's own cache takes equal paths on two servers for one file, and follows ".." in them.

    Raises:
        InputError, OSError: see :func:`~detrex.utils.download.fetch`.
    """
    folder = Path(get_cache_dir(), "detrex", hashlib.sha256(address.encode()).hexdigest()[:16])
    name = Path(urlsplit(address).path).name or "checkpoint"
    return fetch(address, folder / name, size, sha256)


class ZooHandler(PathHandler):
    """Makes ``zoo://NAME`` an address that ``PathManager`` knows."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs) -> str:
        entry = zoo_entry(path)
        return str(download(entry.address, entry.size, entry.sha256))


PathManager.register_handler(ZooHandler(), allow_override=True)
