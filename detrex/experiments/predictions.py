"""Images and videos with what a model finds in them, as pictures and as records for JSON."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image

from detrex.data.image import as_pixels
from detrex.engine.predictor import Predictor
from detrex.utils.contact_sheet import draw_found
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write, check_writable
from detrex.utils.images import is_address

from .pictures import Sample
from .video import draw_video

CHUNK = 16  # images that are read before the first of them is drawn
_KEPT = {"JPEG", "PNG", "BMP", "WEBP", "TIFF"}  # formats of photographs that are drawn as such


def found_path(source: Path | str, folder: Path) -> Path:
    """Where a picture goes, under a name of its own: the folder may hold the photographs.

    "a.jpg" becomes "a_found.jpg"; of formats that hold no photographs, "a.gif" "a.gif_found.png".
    """
    name = _file_name(source)
    if Image.registered_extensions().get(name.suffix.lower()) in _KEPT:
        return folder / f"{name.stem}_found{name.suffix}"
    return folder / f"{name.name}_found.png"


def found_clip(source: str, folder: Path) -> Path:
    """Where a video goes: "clip.avi" becomes "clip_found.mp4"."""
    return folder / f"{Path(source).stem}_found.mp4"


def _file_name(source: Path | str) -> Path:
    """Of an address, the end of its path, without what a file name should not hold."""
    if not is_address(str(source)):
        return Path(source)
    last = unquote(urlsplit(str(source)).path).rpartition("/")[2]
    return Path(re.sub(r"[^\w.-]|^\.+", "_", last)[-100:] or "image")


def found_paths(sources: Sequence[Path | str], folder: Path) -> dict[Path | str, Path]:
    """Source -> where its picture goes. Raises InputError where it cannot or must not go there."""
    targets = {source: check_writable(found_path(source, folder)) for source in sources}
    names = Counter(targets.values())
    twice = next((s for s, target in targets.items() if names[target] > 1), None)
    if twice is not None or len(targets) < len(sources):
        name = _file_name(twice or sources[0]).name
        raise InputError(f"{name}: several images of this name: give one folder at a time")
    written = {target.resolve() for target in targets.values()}
    for source in sources:
        if not is_address(str(source)) and Path(source).resolve() in written:
            raise InputError(f"{source}: would be overwritten: give another folder with -o")
    return targets


def predict_images(
    predictor: Predictor,
    targets: dict[Path | str, Path],
    failed: Callable[[InputError], None],
    drawn: Callable[[Path, str], None],
) -> list[dict]:
    """Draw each image to its target; return what was found, a record for each image.

    Args:
        predictor: the model.
        targets: of ``found_paths``.
        failed: is told of an image that cannot be read and is left out.
        drawn: is told of a picture that was written, and what is on it: "2 x car, 1 x bus".
    """
    records, sources = [], list(targets)
    for i in range(0, len(sources), CHUNK):
        images = _read(sources[i : i + CHUNK], failed)
        found = predictor(list(images.values()))
        for (source, pixels), one in zip(images.items(), found, strict=True):
            labelled = predictor.labelled(one)
            _draw(Image.fromarray(pixels), targets[source], labelled)
            records.append({"file": os.fspath(source), **predictor.to_dict(one)})
            seen = Counter(name for _, name, _ in labelled)
            drawn(targets[source], ", ".join(f"{n} x {c}" for c, n in seen.items()) or "nothing")
    return records


def _read(
    sources: list[Path | str], failed: Callable[[InputError], None]
) -> dict[Path | str, np.ndarray]:
    images = {}
    for source in sources:
        try:
            images[source] = as_pixels(source)
        except InputError as error:
            failed(error)
    return images


def _draw(image: Image.Image, target: Path, boxes: list[tuple]) -> None:
    with atomic_write(target, "wb") as stream:
        kind = Image.registered_extensions()[target.suffix.lower()]
        draw_found(image, boxes).save(stream, format=kind)


def predict_video(predictor: Predictor, source: str, target: Path) -> list[dict]:
    """Draw each frame of a video; return what was found, a record for each frame."""
    records: list[dict] = []

    def detect(sample: Sample, image: Image.Image) -> list:
        found = predictor(image)
        records.append({"file": source, "frame": len(records), **predictor.to_dict(found)})
        return predictor.labelled(found)

    draw_video(source, target, [("", detect)])
    return records
