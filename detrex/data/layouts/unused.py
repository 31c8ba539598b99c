"""Files that no reader has used: counted and named, unless they are plainly no data."""

from __future__ import annotations

import os

from detrex.utils.images import ENDINGS

from .files import Files

_TEXTS = ("readme", "license", "licence", "copying", "citation", "changelog", "requirements")
_NO_DATA = ".md .rst .html .pdf .py .ipynb .sh .zip .tar .gz .tgz .7z .rar .cache .log .ini .lock"


def note_unused(files: Files) -> None:
    """Add what nobody has read to the notes."""
    for path in files.unused():
        name = path.rsplit("/", 1)[-1].lower()
        ending = os.path.splitext(name)[1]
        if ending in ENDINGS:
            files.notes["images in no split, left out"].append(path)
        elif not name.startswith(_TEXTS) and ending not in _NO_DATA.split():
            kind = files.json(path) if ending == ".json" else None
            where = kind.reason if kind and kind.damaged else path
            where += f" ({kind.name})" if kind and kind.name else ""
            files.notes["other files, not read"].append(where)
