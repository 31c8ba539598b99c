"""Opening images: what is opened, what is refused, and storage that fails for a moment."""

import errno
import functools
import http.server
import io
import os
import socket
import threading

import numpy as np
import pytest
from PIL import ExifTags, Image, UnidentifiedImageError

from detrex.data.image import as_pixels, read_image
from detrex.utils import images
from detrex.utils.errors import InputError, StorageError
from detrex.utils.images import is_image, open_image

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
READERS = (open_image, as_pixels, lambda path: read_image(str(path), "RGB"))


def encoded(kind, **options):
    stream = io.BytesIO()
    Image.new("RGB", (12, 8), (200, 90, 20)).save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def waits(monkeypatch):
    """Seconds that were waited; nobody waits."""
    waited = []
    monkeypatch.setattr(images.time, "sleep", waited.append)
    return waited


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000"])
def test_formats_of_every_reader(tmp_path, kind):
    (tmp_path / "name without ending").write_bytes(encoded(kind))
    assert is_image(tmp_path / "name without ending")
    for read in READERS:
        pixels = np.asarray(read(tmp_path / "name without ending")).astype(int)
        assert pixels.shape == (8, 12, 3) and abs(pixels - (200, 90, 20)).max() < 8


def test_heic_where_its_package_is(tmp_path):
    """EXIF's orientation does not count in HEIC: the decoder has turned the pixels already."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = Image.new("RGB", (64, 48), (200, 90, 20))
    image.paste((20, 90, 200), (0, 0, 32, 48))
    image.save(tmp_path / "a.heic", exif=exif)
    assert is_image(tmp_path / "a.heic") and images.image_size(tmp_path / "a.heic") == (64, 48)
    for read in READERS:
        pixels = np.asarray(read(tmp_path / "a.heic")).astype(int)
        assert pixels.shape == (48, 64, 3)
        assert abs(pixels[24, 8] - (20, 90, 200)).max() < 12
        assert abs(pixels[24, 56] - (200, 90, 20)).max() < 12


def test_moving_images_give_their_first_frame(tmp_path):
    frames = [Image.new("RGB", (12, 8), color) for color in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        frames[0].save(tmp_path / "a.jpg", kind, save_all=True, append_images=frames[1:])
        assert abs(as_pixels(tmp_path / "a.jpg")[4, 4].astype(int) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (EPS, "an EPS file, which is not decoded here"),
        (b"%PDF-1.7\n", "a PDF file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "a HEIC file|a damaged HEIF file"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1", "a.jpg"),  # PIL's own word where it has the decoder
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull fetches the image"),
        (b"", "the file is empty"),
        (b"text", "no format that is decoded here"),
    ],
)
def test_what_is_no_image_is_named_and_starts_nothing(tmp_path, monkeypatch, content, message):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "a.jpg").write_bytes(content)
    for read in (*READERS[:2], lambda path: as_pixels(path.read_bytes())):
        with pytest.raises(InputError, match=message if read in READERS else "image: not"):
            read(tmp_path / "a.jpg")
    assert images.image_size(tmp_path / "a.jpg") is None
    assert not (tmp_path / "ran").exists()


def test_a_server_opens_no_other_formats(tmp_path, monkeypatch):
    Image.init()
    monkeypatch.setattr(Image, "ID", list(Image.OPEN))  # the demo's tests may have run before
    (tmp_path / "a.eps").write_bytes(EPS)
    Image.open(tmp_path / "a.eps").close()
    images.forget_other_formats()
    with pytest.raises(UnidentifiedImageError):
        Image.open(tmp_path / "a.eps")
    assert Image.open(io.BytesIO(encoded("PNG"))).size == (12, 8)


def test_only_regular_files_are_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "zeros.jpg").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket.jpg")
        for name, kind in (
            ("fifo", "a FIFO"), ("folder", "a folder"), ("zeros", "a device"), ("socket", "a sock")
        ):  # fmt: skip
            for read in READERS[:2]:
                with pytest.raises(InputError, match=f"{name}.jpg: {kind}"):
                    read(tmp_path / f"{name}.jpg")
            assert images.image_size(tmp_path / f"{name}.jpg") is None


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN])
def test_storage_that_fails_is_asked_again(tmp_path, monkeypatch, waits, code):
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG"))
    failures = [OSError(code, os.strerror(code))] * 2
    original = images._stream

    def stream(name):
        if failures:
            raise failures.pop()
        return original(name)

    monkeypatch.setattr(images, "_stream", stream)
    assert as_pixels(tmp_path / "a.jpg").shape == (8, 12, 3)
    assert waits == [0.1, 1.0]
    failures += [OSError(code, os.strerror(code))] * 4
    with pytest.raises(StorageError, match=r"a.jpg: could not be read, 4 times: .*may be sound"):
        as_pixels(tmp_path / "a.jpg")
    failures += [OSError(code, os.strerror(code))] * 4
    with pytest.raises(StorageError):
        images.image_size(tmp_path / "a.jpg")


def test_files_that_are_not_there_are_no_failure_of_the_storage(tmp_path, waits):
    with pytest.raises(InputError, match=r"gone.jpg: not a readable image \(No such file") as error:
        as_pixels(tmp_path / "gone.jpg")
    assert not isinstance(error.value, StorageError) and not waits


@pytest.fixture
def server(tmp_path):
    """Address of a folder."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web/a.jpg").write_bytes(encoded("JPEG"))
    handler = functools.partial(Handler, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        if self.path == "/busy.jpg":
            self.send_error(503)
        else:
            super().do_GET()


def test_addresses(server, waits):
    assert as_pixels(f"{server}/a.jpg").shape == (8, 12, 3)
    with pytest.raises(InputError, match="gone.jpg: HTTP 404"):
        as_pixels(f"{server}/gone.jpg")
    assert not waits
    with pytest.raises(StorageError, match="HTTP 503"):
        as_pixels(f"{server}/busy.jpg")
    with pytest.raises(StorageError, match="refused"):
        as_pixels("http://127.0.0.1:9/a.jpg")
