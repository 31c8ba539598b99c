"""Reading the small files of a run's folder, which may be damaged or a stranger's.

Whatever is wrong with one is an ``InputError`` of one line that names it.
"""

from __future__ import annotations

import json
import os
import stat
import types
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from detrex.utils.errors import InputError

MEBIBYTE = 2**20
_LARGEST_INTEGER = 2**63  # it fits into an array, and a float


def read_text(path: str | os.PathLike, largest: int = MEBIBYTE) -> str:
    """The text of a regular file of at most ``largest`` bytes; a byte order mark is left out.

    Raises:
        InputError: it cannot be read, is no regular file, is larger, or is not UTF-8.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer
            raise InputError(f"{path}: not a regular file")
        with open(path, "rb") as stream:
            content = stream.read(largest + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > largest:
        raise InputError(f"{path}: larger than the {largest / MEBIBYTE:g} MiB that it may have")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file (damaged, or not in UTF-8)") from None


def read_json_object(
    path: str | os.PathLike, kinds: Mapping[str, object], largest: int = 16 * MEBIBYTE
) -> dict:
    """The JSON object that a file holds.

    Args:
        path: the file.
        kinds: of the keys that it may lack but not have otherwise, as :func:`is_a` takes them.
        largest: bytes.

    Raises:
        InputError: as :func:`read_text`; or it is not JSON, no object, or a value is of another
            kind: names the key.
    """
    try:
        content = json.loads(read_text(path, largest))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # an integer of 10,000 digits is a ValueError
        raise InputError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a record")
    for key, kind in kinds.items():
        if key in content and not is_a(content[key], kind):
            raise InputError(f"{path}: {key} is damaged: {content[key]!r:.60}")
    return content


def is_a(value: object, kind: object) -> bool:
    """Whether a JSON value is of a kind.

    Args:
        value: as ``json`` reads it.
        kind: a type, ``list[...]``, ``dict[str, ...]``; or a dict: an object that has all these
            keys, of these kinds; or a union or tuple of kinds. An integer is a float, too; a
            boolean is neither, nor is an integer of more than 64 bits.
    """
    if isinstance(kind, Mapping):
        return isinstance(value, dict) and all(
            name in value and is_a(value[name], part) for name, part in kind.items()
        )
    parts = kind if isinstance(kind, tuple) else get_args(kind)
    if isinstance(kind, tuple | types.UnionType):
        return any(is_a(value, part) for part in parts)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(is_a(item, parts[0]) for item in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(is_a(item, parts[1]) for item in value.values())
    if kind in (object, Any):
        return True
    if type(value) is int and abs(value) > _LARGEST_INTEGER:
        return False
    if kind is float:
        return type(value) in (int, float)
    return type(value) is (type(None) if kind is None else kind)
