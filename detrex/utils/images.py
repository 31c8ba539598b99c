"""Opening images: one place for training, evaluation, prediction, checks and pictures.

Whoever made the file: only formats that PIL decodes in its own process are tried (PIL would start
Ghostscript for an EPS file named a.jpg), only regular files are opened (a FIFO waits for ever),
and sizes are bounded before memory is taken.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from detrex.utils.errors import InputError, StorageError

ENDINGS = set(
    ".jpg .jpeg .jpe .jfif .png .apng .bmp .dib .gif .webp .tif .tiff .ppm .pgm .pbm .pnm .jp2 "
    ".avif".split()
)  # of files that are images; compared in lower case
MAX_BYTES = 2**29  # of a file; more than any sound one of as many pixels as PIL allows
WAITS = (0.1, 1.0, 5.0)  # seconds before storage that failed is asked again
TIMEOUT = 30  # seconds that a server may keep silent
_FORMATS = "JPEG PNG BMP DIB GIF WEBP TIFF PPM JPEG2000 AVIF".split()
_TRANSIENT = {
    getattr(errno, name)
    for name in (
        "EIO ESTALE ETIMEDOUT EAGAIN EBUSY EREMOTEIO ENOLINK ENOTCONN ESHUTDOWN ECONNRESET "
        "ECONNREFUSED ECONNABORTED EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH EMFILE ENFILE ENOMEM"
    ).split()
    if hasattr(errno, name)  # not every system has every one
}
# How files that are met under an image's name begin, in lower case: pictures, then others.
_PICTURES = {
    b"%!ps": "an EPS file",
    b"\xc5\xd0\xd3\xc6": "an EPS file",
    b"%pdf": "a PDF file",
    b"8bps": "a Photoshop file",
    b"\xff\x0a": "a JPEG XL file",
    b"\x00\x00\x00\x0cjxl ": "a JPEG XL file",
    b"<svg": "an SVG file",
}
_OTHERS = {
    b"pk\x03\x04": "a ZIP archive",
    b"<?xml": "an XML file",
    b"<html": "a web page",
    b"<!doctype": "a web page",
    b"version https://git-lfs": "a pointer of Git LFS, for which git lfs pull fetches the image",
}
_BRANDS = {b"avif": "an AVIF file", b"avis": "an AVIF file"} | dict.fromkeys(
    (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), "a HEIC file"
)
_DECODERS_RAISE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
T = TypeVar("T")


def from_file(path: str | os.PathLike, decode: Callable[[BinaryIO], T]) -> T:
    """What ``decode`` makes of a file's stream; storage that fails for a moment is asked again.

    Args:
        path: of a regular file; or an address: http, https, ftp, what else ``PathManager`` knows.
        decode: reads the stream from its start; called again after a failure.

    Raises:
        StorageError: a failure of disk or network that lasts.
        InputError: no regular file, or one of more than ``MAX_BYTES``.
        Exception: what the file system (no such file, no permission) or ``decode`` raises.
    """
    for wait in (*WAITS, None):
        try:
            with _stream(os.fspath(path)) as stream:
                return decode(stream)
        except OSError as error:
            if error.errno not in _TRANSIENT:
                raise
            if wait is None:
                raise StorageError(
                    f"{path}: could not be read, {1 + len(WAITS)} times: {error.strerror}. "
                    "The storage or the network failed; the image may be sound"
                ) from error
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def is_address(name: str | os.PathLike) -> bool:
    """Whether a name is an address, not a path."""
    return "://" in os.fspath(name)


def _stream(name: str) -> BinaryIO:
    if name.lower().startswith(("http://", "https://", "ftp://")):
        return io.BytesIO(_fetch(name))
    if is_address(name):
        from detectron2.utils.file_io import PathManager  # here: it imports torch

        return PathManager.open(name, "rb")
    check_regular(name, MAX_BYTES)
    return open(name, "rb")


def check_regular(path: str | os.PathLike, limit: float = float("inf")) -> None:
    """Raise InputError for anything but a regular file of up to ``limit`` bytes; OSError for a
    path that is not there. Nothing is opened: a FIFO would wait for a writer."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        raise InputError(f"{path}: {kinds.get(stat.S_IFMT(status.st_mode), 'a device')}, no file")
    if status.st_size > limit:
        raise _too_large(path, status.st_size, limit)


def _too_large(path: object, size: float, limit: float) -> InputError:
    return InputError(
        f"{path}: {size / 2**20:.0f} MiB, images may have {limit / 2**20:.0f}: is it an image? "
        "Convert or cut it"
    )


def _fetch(address: str) -> bytes:
    """The content behind an address, kept nowhere: caches mix up servers and paths."""
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "detrex"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            content = answer.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        if error.code in (408, 429) or error.code >= 500:
            raise OSError(errno.EIO, f"HTTP {error.code} {error.reason}") from error
        raise InputError(f"{address}: HTTP {error.code} {error.reason}") from error
    except (urllib.error.URLError, TimeoutError) as error:
        raise OSError(errno.EIO, str(getattr(error, "reason", error))) from error
    if len(content) > MAX_BYTES:
        raise _too_large(address, len(content), MAX_BYTES)
    return content


def opened(stream: BinaryIO) -> Image.Image:
    """PIL's image of a stream, its first frame, not yet decoded.

    Raises UnidentifiedImageError, which says what it is instead, and what PIL's readers raise.
    """
    try:
        return Image.open(stream, formats=_formats())
    except UnidentifiedImageError:
        stream.seek(0)
        raise UnidentifiedImageError(_kind(stream.read(64))) from None


@functools.cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]  # AVIF: since Pillow 11.3


def forget_other_formats() -> None:
    """Take from PIL, for the rest of the process, the formats that are not opened here."""
    Image.ID[:] = _formats()


def _kind(head: bytes) -> str:
    """What a file is that PIL does not open, by its first bytes."""
    if not head:
        return "the file is empty"
    for name in _formats():
        accepted = Image.OPEN[name][1](head)
        if isinstance(accepted, str):
            return f"a {name} file, for which this Pillow has no decoder"
        if accepted:
            return f"a damaged {name} file"
    known = (_PICTURES | _OTHERS).items()
    kinds = [kind for start, kind in known if head.lower().startswith(start)]
    if head[4:8] == b"ftyp":
        kinds = [_BRANDS.get(head[8:12], "a video")]
    if kinds:
        return f"{kinds[0]}, which is not decoded here: JPEG and PNG always are"
    return "no format that is decoded here: JPEG and PNG always are"


def is_image(path: str | os.PathLike) -> bool:
    """Whether a file is meant to be an image: by its ending, or as it begins as one does."""
    if os.path.splitext(path)[1].lower() in ENDINGS:
        return True
    try:
        head = from_file(path, lambda stream: stream.read(12))
        return (
            head.lower().startswith(tuple(_PICTURES))
            or (head[4:8] == b"ftyp" and head[8:12] in _BRANDS)
            or from_file(path, lambda stream: bool(opened(stream)))
        )
    except StorageError:
        raise
    except Exception:  # not a file, no permission, or whatever PIL's readers raise
        return False


def orientation(image: Image.Image) -> object:
    """EXIF orientation (XMP's, where there is no EXIF) as it is in the file; None if there is none.

    It is not always one of 1 to 8, nor a number.
    """
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception as error:  # damaged EXIF data raises many types
        if isinstance(error, OSError) and error.errno:
            raise  # the storage's
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


def unreadable(name: object, error: Exception) -> InputError:
    """Return what to raise instead of what reading an image raised."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return InputError(f"{name}: not a readable image ({' '.join(str(reason).split())})")


def open_image(path: str | os.PathLike) -> Image.Image:
    """The image in RGB, turned as its EXIF data says. Raises InputError if it cannot be read."""
    try:
        return from_file(path, lambda stream: upright_8bit(opened(stream)).convert("RGB"))
    except InputError:
        raise
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, IndexError ...
        raise unreadable(path, error) from error


def image_fault(path: str | os.PathLike) -> str:
    """Why an image cannot be read; empty if it can. Raises StorageError as :func:`open_image`."""
    try:
        open_image(path)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


def image_size(path: str | os.PathLike) -> tuple[int, int] | None:
    """Width and height of an image turned as its EXIF data says, mostly from its header; None if
    it does not open. Raises StorageError where the storage does not answer."""
    try:
        return from_file(path, lambda stream: _upright_size(opened(stream)))
    except StorageError:
        raise
    except _DECODERS_RAISE:
        return None


def _upright_size(image: Image.Image) -> tuple[int, int]:
    if image.format == "TIFF":  # turned when opened or when decoded, by PIL's version
        return upright_8bit(image).size
    told = any("exif" in str(key).lower() or "xmp" in str(key).lower() for key in image.info)
    # PIL decodes a PNG whole to look for EXIF data behind the pixels, where few have any.
    turned = (told or image.format != "PNG") and orientation(image) in (5, 6, 7, 8)
    return image.size[::-1] if turned else image.size
