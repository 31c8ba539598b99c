"""Files of the reports of a diagnosis."""

from __future__ import annotations

import os

from detrex.utils.errors import InputError
from detrex.utils.misc import with_nan
from detrex.utils.small_files import read_json_object


def read_versioned(path: str | os.PathLike, version: int) -> dict:
    """Return the content of a report, NaN for null.

    Raises:
        InputError: it is damaged, or its "format" is of another version.
    """
    content = with_nan(read_json_object(path, {"format": int}))
    if content.get("format") not in (None, version):
        raise InputError(f"{path}: format {content['format']}, this version reads {version}")
    return content
