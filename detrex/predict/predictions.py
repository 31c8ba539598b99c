"""Detections in images and videos, as pictures and as records for JSON."""

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
from detrex.inspect.contact_sheet import draw_found
from detrex.inspect.pictures import Sample
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write, check_writable
from detrex.utils.images import is_address

from .predictor import Predictor
from .video import draw_video

CHUNK = 16  # images that are read before the first of them is drawn
_PHOTOGRAPHS = {"JPEG", "PNG", "BMP", "WEBP", "TIFF"}  # their pictures keep the format


def found_path(source: Path | str, folder: Path) -> Path:
    """The file of an image's picture; its name differs from the image's, which may be beside it.

    "a.jpg" becomes "a_found.jpg"; of other formats than photographs', "a.gif" "a.gif_found.png".
    """
    name = _file_name(source)
    if Image.registered_extensions().get(name.suffix.lower()) in _PHOTOGRAPHS:
        return folder / f"{name.stem}_found{name.suffix}"
    return folder / f"{name.name}_found.png"


def found_clip(source: str, folder: Path) -> Path:
    """The file of a video's pictures: "clip.avi" becomes "clip_found.mp4"."""
    return folder / f"{_file_name(source, 'stream').stem}_found.mp4"


def _file_name(source: Path | str, unnamed: str = "image") -> Path:
    """The name of a file; of an address, the end of its path without unusual characters."""
    if not is_address(str(source)):
        return Path(source)
    last = unquote(urlsplit(str(source)).path).rpartition("/")[2]
    return Path(re.sub(r"[^\w.-]|^\.+", "_", last)[-100:] or unnamed)


def found_paths(sources: Sequence[Path | str], folder: Path) -> dict[Path | str, Path]:
    """Source -> file of its picture.

    Raises:
        InputError: a file that cannot be written, that two sources share, or that is a source.
    """
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
    """Return the detections, a record for each image, and draw each image to its target.

    Args:
        predictor: the model.
        targets: of :func:`found_paths`.
        failed: called with the error of an image that cannot be read and is left out.
        drawn: called with a picture that was written and what is on it: "2 x car, 1 x bus".
    """
    records, sources = [], list(targets)
    for i in range(0, len(sources), CHUNK):
        images = _read(sources[i : i + CHUNK], failed)
        detections = predictor(list(images.values()))
        for (source, pixels), instances in zip(images.items(), detections, strict=True):
            labelled = predictor.labelled(instances)
            with atomic_write(targets[source], "wb") as stream:
                kind = Image.registered_extensions()[targets[source].suffix.lower()]
                draw_found(Image.fromarray(pixels), labelled).save(stream, format=kind)
            records.append({"file": os.fspath(source), **predictor.to_dict(instances)})
            counts = Counter(name for _, name, _ in labelled)
            drawn(targets[source], ", ".join(f"{n} x {c}" for c, n in counts.items()) or "nothing")
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


def predict_video(
    predictor: Predictor, source: str, target: Path, count: int | None = None
) -> list[dict]:
    """Return the detections in a video or stream, a record for each of its frames, or for the first
    ``count``; draw them to ``target``."""
    records: list[dict] = []

    def detect(sample: Sample, image: Image.Image) -> list:
        instances = predictor(image)
        records.append({"file": source, "frame": len(records), **predictor.to_dict(instances)})
        return predictor.labelled(instances)

    draw_video(source, target, [("", detect)], count)
    return records
