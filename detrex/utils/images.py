"""Opening images, for training, evaluation, prediction, checks and pictures.

Files may be untrusted. Only formats that PIL decodes in this process are tried (it would
start Ghostscript for an EPS file named a.jpg), only regular files are opened (a FIFO waits for
ever), and sizes are bounded before memory is allocated.
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
)  # of image files, in lower case
MAX_BYTES = 2**29  # of a file; no intact image of as many pixels as PIL allows has more
WAITS = (0.1, 1.0, 5.0)  # seconds before the next try, after storage failed
TIMEOUT = 30  # seconds without an answer of a server
_FORMATS = "JPEG PNG BMP DIB GIF WEBP TIFF PPM JPEG2000 AVIF HEIF".split()
_TRANSIENT = {
    getattr(errno, name)
    for name in (
        "EIO ESTALE ETIMEDOUT EAGAIN EBUSY EREMOTEIO ENOLINK ENOTCONN ESHUTDOWN ECONNRESET "
        "ECONNREFUSED ECONNABORTED EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH EMFILE ENFILE ENOMEM"
    ).split()
    if hasattr(errno, name)  # not every system has every one
}
# First bytes, in lower case, of files that are often named like images: pictures, then others.
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
    (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"),
    "a HEIC file (pip install pillow-heif)",
)
_DECODERS_RAISE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
T = TypeVar("T")


def from_file(path: str | os.PathLike, decode: Callable[[BinaryIO], T]) -> T:
    """Return what ``decode`` makes of a file's stream, after several tries if the storage fails.

    Args:
        path: a regular file, or an address: http, https, ftp or another of ``PathManager``'s.
        decode: reads the stream from its start; called again after a failure.

    Raises:
        StorageError: disk or network keep failing.
        InputError: no regular file, or one of more than ``MAX_BYTES``.
        Exception: of the file system (no such file, no permission) or of ``decode``.
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


def _fetch(address: str) -> bytes:
    """Return the content at an address. It is not cached: caches mix up servers and paths."""
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


def check_regular(path: str | os.PathLike, limit: float = float("inf")) -> None:
    """Check, without opening it, that a path is a regular file: to open a FIFO waits for a writer.

    Raises:
        InputError: it is something else, or has more than ``limit`` bytes.
        OSError: there is nothing at the path.
    """
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


def opened(stream: BinaryIO) -> Image.Image:
    """Return PIL's image of a stream, its first frame, not yet decoded.

    Raises UnidentifiedImageError, saying what the file is instead, and the errors of PIL's readers.
    """
    try:
        return Image.open(stream, formats=_formats())
    except UnidentifiedImageError:
        stream.seek(0)
        raise UnidentifiedImageError(_kind(stream.read(64))) from None


@functools.cache
def _formats() -> list[str]:
    Image.init()
    with contextlib.suppress(ImportError):  # HEIC photographs, where it is installed
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return [name for name in _FORMATS if name in Image.OPEN]  # AVIF: since Pillow 11.3


def _kind(head: bytes) -> str:
    """Return what a file is that PIL does not open, by its first bytes."""
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


def forget_other_formats() -> None:
    """Remove from PIL, for the rest of the process, the formats that are not opened here."""
    Image.ID[:] = _formats()


def orientation(image: Image.Image) -> object:
    """Return the EXIF orientation in a file (without EXIF, XMP's), or None.

    In odd files it is none of 1 to 8, or no number.
    """
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception as error:  # damaged EXIF data raises many types
        if isinstance(error, OSError) and error.errno:
            raise  # the storage failed
        return None


def upright_8bit(image: Image.Image) -> Image.Image:
    """Return the image decoded and upright by its EXIF data; of 16-bit grey the upper 8 bits.

    PIL's own conversion would cut 16-bit pixels at 255. Raises the errors of PIL's decoders, and
    ValueError for pixels of 32 bits.
    """
    image.load()  # first: the suppression below would hide a failure, which leaves black rows
    with contextlib.suppress(Exception):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("pixels of 32 bits have no known range: convert the file to 8 bits")
    return image


def open_image(path: str | os.PathLike) -> Image.Image:
    """Return the image in RGB, upright by its EXIF data. Raises InputError if it is unreadable."""
    try:
        return from_file(path, lambda stream: upright_8bit(opened(stream)).convert("RGB"))
    except InputError:
        raise
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, IndexError ...
        raise unreadable(path, error) from error


def unreadable(name: object, error: Exception) -> InputError:
    """Return the error to raise for an exception of any type while an image was read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return InputError(f"{name}: not a readable image ({' '.join(str(reason).split())})")


def image_fault(path: str | os.PathLike) -> str:
    """Return why an image cannot be read, "" if it can."""
    try:
        open_image(path)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


def image_size(path: str | os.PathLike) -> tuple[int, int] | None:
    """Return width and height of an image, upright by its EXIF data; None if it does not open.

    Mostly the header is enough. Raises StorageError if the storage fails.
    """
    try:
        return from_file(path, lambda stream: _upright_size(opened(stream)))
    except StorageError:
        raise
    except _DECODERS_RAISE:
        return None


def _upright_size(image: Image.Image) -> tuple[int, int]:
    if image.format == "TIFF":  # PIL turns it at opening or at decoding, by its version
        return upright_8bit(image).size
    exif = any("exif" in str(key).lower() or "xmp" in str(key).lower() for key in image.info)
    # PIL decodes a whole PNG to look for EXIF data after the pixels, where few have any.
    turned = (exif or image.format != "PNG") and orientation(image) in (5, 6, 7, 8)
    return image.size[::-1] if turned else image.size


def is_image(path: str | os.PathLike) -> bool:
    """Whether a file is meant to be an image, by its ending or its first bytes."""
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
