"""Files that are not opened, and packages that are not there: the message names them."""

from __future__ import annotations

import os
import struct
import zlib

import pytest
from PIL import Image

from detrex.data.image import as_pixels
from detrex.utils.files import check_writable
from detrex.utils.images import open_image
from detrex.utils.optional import need_package
from detrex.utils.small_files import read_text
from tests.refusals import assert_refused

HEADER = b"IHDR" + struct.pack(">2I5B", 2**16, 2**16, 8, 2, 0, 0, 0)
START = b"\x89PNG\r\n\x1a\n\0\0\0\r" + HEADER
DATA = struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))


def three_gigabytes(read):
    def action(tmp_path):
        Image.new("RGB", (12, 8)).save(tmp_path / "a.jpg")
        with open(tmp_path / "a.jpg", "ab") as stream:
            stream.truncate(3 * 2**30)  # sparse
        read(tmp_path / "a.jpg")

    return action


def png_of(content):
    def action(tmp_path):
        (tmp_path / "b.png").write_bytes(content)
        as_pixels(tmp_path / "b.png")

    return action


def pipe(function):
    def action(tmp_path):
        os.mkfifo(tmp_path / "pipe")
        function(tmp_path / "pipe")

    return action


REFUSED = {
    "large image, opened": (three_gigabytes(open_image), "a.jpg: ", "3072 MiB"),
    "large image, read": (three_gigabytes(as_pixels), "a.jpg: ", "3072 MiB"),
    "image of many pixels": (
        png_of(START + struct.pack(">I", zlib.crc32(HEADER)) + DATA),
        "b.png: ",
        "limit",
    ),
    "damaged header": (png_of(START + b"crc?" + DATA), "b.png: ", "PNG"),
    "pipe, to be read": (pipe(read_text), "pipe"),
    "pipe, to be written": (pipe(check_writable), "pipe"),
    "folder": (lambda tmp_path: read_text(tmp_path), "{}", "not a"),
    "missing file": (lambda tmp_path: read_text(tmp_path / "none"), "none", "No such file"),
    "missing package": (
        lambda: need_package("no_such_module", "x[y]"),
        "no_such_module",
        "pip install 'x[y]'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_named(request, tmp_path, case):
    action, *names = REFUSED[case]
    assert_refused(request, action, *(name.format(tmp_path) for name in names))


def test_a_package_that_is_there_is_not_needed():
    need_package("math", "none")
