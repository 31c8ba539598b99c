"""Reading the small files of a run's folder, which may be damaged or untrusted.

Every fault is an ``InputError`` of one line that names the file.
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


def read_text(path: str | os.PathLike, largest: int = MEBIBYTE) -> str:
    """Return the text of a regular file of at most ``largest`` bytes, without a byte order mark.

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


def read_json_object(path: str | os.PathLike, kinds: Mapping[str, object]) -> dict:
    """Return the JSON object in a file of at most 16 MiB.

    Args:
        path: the file.
        kinds: key -> type of its value, as in :func:`is_a`; keys may be missing.

    Raises:
        InputError: as :func:`read_text`; or it is not JSON, or no object; or a value has another
            type, naming its key.
    """
    try:
        content = json.loads(read_text(path, 16 * MEBIBYTE))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a record")
    for key, kind in kinds.items():
        if key in content and not is_a(content[key], kind):
            raise InputError(f"{path}: {key} is damaged: {content[key]!r:.60}")
    return content


def is_a(value: object, kind: object) -> bool:
    """Whether a JSON value has a type.

    Args:
        value: as ``json`` reads it.
        kind: a type, ``list[...]`` or ``dict[str, ...]``; a dict of keys that an object must have
            and their types; or a union or tuple of these. An integer is a float, too; a boolean is
            neither.
    """
    if isinstance(kind, Mapping):
        return isinstance(value, dict) and all(
            name in value and is_a(value[name], inner) for name, inner in kind.items()
        )
    inner = kind if isinstance(kind, tuple) else get_args(kind)
    if isinstance(kind, tuple | types.UnionType):
        return any(is_a(value, choice) for choice in inner)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(is_a(item, inner[0]) for item in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(is_a(item, inner[1]) for item in value.values())
    if kind in (object, Any):
        return True
    if kind is float:
        return type(value) in (int, float)
    return type(value) is (type(None) if kind is None else kind)
