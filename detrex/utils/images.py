"""What PIL leaves to its users when it opens an image."""

from __future__ import annotations

import contextlib
import os

import numpy as np
from PIL import ExifTags, Image, ImageOps

from detrex.utils.errors import InputError

ENDINGS = {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
_DECODERS_RAISE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def orientation(image: Image.Image) -> object:
    """EXIF orientation (XMP's, where there is no EXIF) as it is in the file; None if there is none.

    It is not always one of 1 to 8, nor a number.
    """
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF data raises many types
        return None


def upright_8bit(image: Image.Image) -> Image.Image:
    """The image decoded, turned as its EXIF data says, 16-bit grey by its upper 8 bits.

    PIL's own conversion cuts pixels of more than 8 bits at 255. EXIF data that cannot be read
    turns nothing. Raises what PIL's decoders raise, and ValueError for pixels of 32 bits.
    """
    image.load()  # first: a failure while EXIF is looked for would be hidden, with black rows left
    with contextlib.suppress(Exception):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("pixels of 32 bits have no known range: convert the file to 8 bits")
    return image


def open_image(path: str | os.PathLike) -> Image.Image:
    """The image in RGB, turned as its EXIF data says. Raises InputError if it cannot be read."""
    try:
        with Image.open(path) as image:
            return upright_8bit(image).convert("RGB")
    except _DECODERS_RAISE as error:
        raise InputError(f"{path}: cannot be read as an image: {error}") from None


def image_size(path: str | os.PathLike) -> tuple[int, int] | None:
    """Width and height of an image turned as its EXIF data says, mostly from its header; None if
    it does not open."""
    try:
        with Image.open(path) as image:
            if image.format == "TIFF":  # turned when opened or when decoded, by PIL's version
                return upright_8bit(image).size
            told = any(
                "exif" in str(key).lower() or "xmp" in str(key).lower() for key in image.info
            )
            # PIL decodes a PNG whole to look for EXIF data behind the pixels, where few have any.
            turned = (told or image.format != "PNG") and orientation(image) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size
    except _DECODERS_RAISE:
        return None
