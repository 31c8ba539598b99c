"""What can be wrong with an image file, or unusual. Each function spoils one file of a case."""

from __future__ import annotations

import io
import os
import struct
from functools import partial
from random import Random

import numpy as np
from PIL import Image

from tests.fuzz.case import Case

ORIENTATION = 0x0112
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n"


def replace(picture: Image.Image, case: Case, random: Random, format: str, **options) -> None:
    """Put the picture, encoded, in the place of a random image, with its size in the JSON."""
    entry = random.choice(case.content["images"])
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    case.file(entry).write_bytes(stream.getvalue())
    entry.update(width=picture.width, height=picture.height)


def scene(case: Case, random: Random) -> Image.Image:
    with Image.open(random.choice(sorted(case.sound.iterdir()))) as image:
        return image.convert("RGB")


def mode(name: str, format: str, case: Case, random: Random, **options) -> None:
    replace(scene(case, random).convert(name), case, random, format, **options)


def palette_with_transparency(case: Case, random: Random) -> None:
    picture = scene(case, random).quantize(16)
    replace(picture, case, random, "PNG", transparency=random.randrange(16))


def deep(format: str, case: Case, random: Random) -> None:
    """16 bits: the values of 8-bit pixels times 256, and something below."""
    grey = np.asarray(scene(case, random).convert("L"), dtype=np.uint16) * 256 + 77
    replace(Image.fromarray(grey), case, random, format)


def very_deep(case: Case, random: Random) -> None:
    picture = scene(case, random).convert("L").convert(random.choice(["I", "F"]))
    replace(picture, case, random, "TIFF")


def turned(orientation: int, case: Case, random: Random) -> None:
    """EXIF orientation; half of the JSONs give the size before, the others after turning."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture, before = scene(case, random), random.random() < 0.5
    format = random.choice(["JPEG", "JPEG", "PNG"])
    replace(picture, case, random, format, exif=exif)
    if orientation > 4 and not before:
        for entry in case.content["images"]:
            if (entry["width"], entry["height"]) == picture.size:
                entry.update(width=picture.height, height=picture.width)
                break


def odd_exif(case: Case, random: Random) -> None:
    """Orientations that are damaged or written in an unusual way."""
    entry = random.choice(case.content["images"])
    order, endian = random.choice([(b"II*\0", "<"), (b"MM\0*", ">")])
    kind, value = random.choice([(3, 6), (4, 3), (1, 6), (9, 8), (3, 0), (3, 77), (2, 6)])
    value = (
        struct.pack(endian + {1: "BBBB", 2: "BBBB", 3: "HH"}.get(kind, "I"), value, *[0] * 0)
        if kind in (4, 9)
        else struct.pack(f"{endian}H", value) + b"\0\0"
    )
    tags = struct.pack(f"{endian}HHI", ORIENTATION, kind, 1) + value
    block = b"Exif\0\0" + order + struct.pack(f"{endian}IH", 8, 1) + tags + b"\0\0\0\0"
    block = block[: random.choice([len(block), len(block), random.randrange(4, len(block))])]
    stream = io.BytesIO()
    picture = scene(case, random)
    picture.save(stream, "JPEG", exif=block)
    case.file(entry).write_bytes(stream.getvalue())
    entry.update(width=picture.width, height=picture.height)


def extreme(width: int, height: int, case: Case, random: Random) -> None:
    replace(Image.new("RGB", (width, height), "blue"), case, random, random.choice(["JPEG", "PNG"]))


def announced(format: str, case: Case, random: Random) -> None:
    """A small file whose header announces 4 gigapixels."""
    stream = io.BytesIO()
    scene(case, random).save(stream, format)
    content = bytearray(stream.getvalue())
    if format == "JPEG":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = b"\xff\xdc\xff\xdc"
    else:
        content[16:24] = struct.pack(">II", 65500, 65500)
    entry = random.choice(case.content["images"])
    case.file(entry).write_bytes(content)
    entry.update(width=65500, height=65500)


def truncated(case: Case, random: Random) -> None:
    path = case.file(random.choice(case.content["images"]))
    content = path.read_bytes()
    cut = random.choice([1, 2, random.randrange(3, len(content)), len(content) - 30])
    path.write_bytes(content[:-cut])


def bytes_changed(where: str, case: Case, random: Random) -> None:
    path = case.file(random.choice(case.content["images"]))
    content = bytearray(path.read_bytes())
    end = 700 if where == "header" else len(content)
    for _ in range(random.randint(1, 4)):
        content[random.randrange(2, end)] = random.randrange(256)
    path.write_bytes(content)


def garbage_behind(case: Case, random: Random) -> None:
    path = case.file(random.choice(case.content["images"]))
    path.write_bytes(path.read_bytes() + random.randbytes(1000))


def no_image(case: Case, random: Random) -> None:
    contents = [b"", b"\0", b"<html>404</html>", b"\xff\xd8\xff", b"GIF89a", bytes(5000), b"P6 1 1"]
    contents += [POSTSCRIPT, b"%PDF-1.7\n", b"\0\0\0\x18ftypheic", b"version https://git-lfs"]
    path = case.file(random.choice(case.content["images"]))
    path.write_bytes(random.choice([*contents, random.randbytes(3000)]))


def no_file(case: Case, random: Random) -> None:
    """What waits for ever, or never ends, when it is read."""
    path = case.file(random.choice(case.content["images"]))
    path.unlink()
    if random.random() < 0.5:
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")


def enormous(case: Case, random: Random) -> None:
    """A sound image with 3 GB of nothing behind it, which take no place on the disk."""
    os.truncate(case.file(random.choice(case.content["images"])), 3 * 2**30)


def moving(format: str, case: Case, random: Random) -> None:
    first = scene(case, random)
    more = {"save_all": True, "append_images": [first.rotate(180)], "lossless": True}
    replace(first, case, random, format, **more)


def exchanged(case: Case, random: Random) -> None:
    """The file of another image, of another size."""
    first, second = random.sample(case.content["images"], 2)
    case.file(first).write_bytes(case.file(second).read_bytes())


MODES = {
    "grey JPEG": ("L", "JPEG"),
    "CMYK JPEG": ("CMYK", "JPEG"),
    "grey PNG": ("L", "PNG"),
    "black and white": ("1", "PNG"),
    "palette": ("P", "PNG"),
    "RGBA": ("RGBA", "PNG"),
    "grey with alpha": ("LA", "PNG"),
    "WebP": ("RGB", "WEBP"),
    "BMP": ("RGB", "BMP"),
    "GIF": ("P", "GIF"),
    "TIFF": ("RGB", "TIFF"),
    "CMYK TIFF": ("CMYK", "TIFF"),
    "PNG or JPEG, any suffix": ("RGB", "PNG"),
}
SIZES = ((1, 1), (2, 3), (20000, 1), (1, 20000), (20000, 3), (20000, 300))
MUTATIONS = {
    **{f"image: {name}": partial(mode, *kind) for name, kind in MODES.items()},
    "image: progressive": partial(mode, "RGB", "JPEG", progressive=True),
    "image: CMYK progressive": partial(mode, "CMYK", "JPEG", progressive=True),
    "image: palette, transparent": palette_with_transparency,
    "image: 16 bits PNG": partial(deep, "PNG"),
    "image: 16 bits TIFF": partial(deep, "TIFF"),
    "image: 32 bits": very_deep,
    **{f"EXIF orientation {i}": partial(turned, i) for i in range(1, 9)},
    "EXIF odd": odd_exif,
    **{f"image: {w} x {h}": partial(extreme, w, h) for w, h in SIZES},
    "announces 4 gigapixels: JPEG": partial(announced, "JPEG"),
    "announces 4 gigapixels: PNG": partial(announced, "PNG"),
    "image truncated": truncated,
    "bytes changed: header": partial(bytes_changed, "header"),
    "bytes changed: anywhere": partial(bytes_changed, "anywhere"),
    "garbage behind the image": garbage_behind,
    "not an image": no_image,
    "not a file": no_file,
    "image of 3 GB": enormous,
    **{f"moving {name}": partial(moving, name) for name in ("GIF", "PNG", "WEBP")},
    "another image": exchanged,
}
