"""The fast image path of the dataset mapper: decode, flip and resize without PIL.

Images stay uint8 (H, W, 3) arrays, as every detectron2 augmentation expects. Decoded pixels equal
PIL's, resized ones differ by at most one grey level. Other file formats, CMYK and other transforms
go through detectron2's own code.
"""

from __future__ import annotations

import functools
import io
import os
from typing import BinaryIO

import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from PIL import Image
from torchvision.transforms.v2 import functional as F

from detrex.utils.errors import InputError
from detrex.utils.images import from_file, opened, orientation, unreadable, upright_8bit

try:
    from torchvision.io import decode_jpeg
except ImportError:  # torchvision 0.29 announces that it will drop its decoders
    decode_jpeg = None

MAX_PIXELS = 2**26  # of a resized image
_JPEG_START = b"\xff\xd8\xff"
_TURNS = {  # EXIF orientation -> the upright image
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def read_image(file_name: str, image_format: str, fast: bool = True) -> np.ndarray:
    """Read a file as detectron2's ``read_image`` does, EXIF orientation applied.

    Unlike detectron2's, damaged files raise, and of 16-bit grey the upper 8 bits are taken.

    Args:
        file_name: a path or address; see :func:`detrex.utils.images.from_file`.
        image_format: "RGB" or "BGR"; any other format of detectron2 goes through PIL.
        fast: decode JPEG by torchvision, the rest by PIL; else all by PIL.

    Returns uint8 (H, W, 3). Raises the errors of ``from_file`` and PIL. A header with more pixels
    than PIL's limit is an error before memory for them is taken.
    """

    def decode(stream: BinaryIO) -> np.ndarray:
        start = stream.read(len(_JPEG_START))
        if fast and start == _JPEG_START and image_format in ("RGB", "BGR"):
            image = _decode(start + stream.read())
            if image is not None:
                return image if image_format == "RGB" else image[:, :, ::-1]
        stream.seek(0)
        return _decode_by_pil(stream, image_format)

    return from_file(file_name, decode)


def _decode(content: bytes) -> np.ndarray | None:
    """Return RGB pixels (H, W, 3) of a colour or grey JPEG; None for everything else."""
    if not decode_jpeg or not content.startswith(_JPEG_START):
        return None
    # PIL checks the size (torchvision allocates whatever the header says) and reads the
    # orientation (torchvision reads unusual EXIF data in another way).
    turn = _TURNS.get(orientation(opened(io.BytesIO(content))))
    try:
        encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        pixels = decode_jpeg(encoded)  # (C, H, W), channels last
    except RuntimeError:
        return None  # PIL may decode it, or say why not
    if pixels.shape[0] not in (1, 3):
        return None  # CMYK: PIL converts it
    image = pixels.expand(3, -1, -1).permute(1, 2, 0).numpy()
    return turn(image) if turn else image


def _decode_by_pil(stream: BinaryIO, image_format: str) -> np.ndarray:
    return detection_utils.convert_PIL_to_numpy(upright_8bit(opened(stream)), image_format)


def as_pixels(image: object, name: str = "image") -> np.ndarray:
    """Return any image as RGB uint8 (H, W, 3), as :func:`read_image` reads it from a file.

    Args:
        image: a path or address; the bytes of a file; a PIL image of any mode; a uint8 array
            (H, W, 3), RGB, or (H, W), grey; a uint8 tensor (3, H, W), RGB, or (1, H, W), grey.
        name: of an image without a file name, for error messages.

    Raises:
        InputError: an image that cannot be read, or no image.
    """
    if isinstance(image, str | os.PathLike):
        image = name = os.fspath(image)
    try:
        return _as_pixels(image)
    except InputError:
        raise
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, IndexError ...
        raise unreadable(name, error) from error


def _as_pixels(image: object) -> np.ndarray:
    if isinstance(image, str):
        return read_image(image, "RGB")
    if isinstance(image, bytes | bytearray):
        pixels = _decode(bytes(image))
        image = opened(io.BytesIO(image)) if pixels is None else pixels
    if isinstance(image, Image.Image):
        return np.asarray(upright_8bit(image).convert("RGB"))
    if isinstance(image, torch.Tensor) and image.ndim == 3:
        image = image.permute(1, 2, 0).numpy(force=True)
    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ValueError(
            f"{pixels.dtype} values of shape {pixels.shape}: arrays must be uint8 (H, W, 3), "
            "tensors uint8 (3, H, W)"
        )
    if not pixels.size:
        raise ValueError("it has no pixels")
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


class AugInput(T.AugInput):
    """detectron2's, with bounds on sizes: it would resize 20000 x 1 to a side of 0, or to 9 GB.

    Args:
        image: (H, W, C).
        fast: flip and resize with torchvision's kernels.
    """

    def __init__(self, image: np.ndarray, fast: bool) -> None:
        super().__init__(image)
        self.fast = fast

    def transform(self, tfm: T.Transform) -> None:
        if isinstance(tfm, T.ResizeTransform):
            shrink = max(1, tfm.new_h * tfm.new_w / MAX_PIXELS) ** 0.5
            tfm.new_h = max(1, int(tfm.new_h / shrink))
            tfm.new_w = max(1, int(tfm.new_w / shrink))
        self.image = apply_image(tfm, self.image) if self.fast else tfm.apply_image(self.image)


def apply_image(tfm: T.Transform, image: np.ndarray) -> np.ndarray:
    """Return ``tfm.apply_image(image)`` of an (H, W, C) image, faster for a resize or a flip.

    Exact types only: a subclass may do something else. A crop is a view already.
    """
    if type(tfm) is T.TransformList:
        return functools.reduce(lambda image, step: apply_image(step, image), tfm.transforms, image)
    if image.dtype == np.uint8 and image.ndim == 3:
        if type(tfm) is T.HFlipTransform:
            return _to_array(to_tensor(image).flip(-1))
        bilinear = type(tfm) is T.ResizeTransform and tfm.interp == Image.BILINEAR
        if bilinear and image.shape[:2] == (tfm.h, tfm.w):
            return _to_array(F.resize_image(to_tensor(image), [tfm.new_h, tfm.new_w]))
    return tfm.apply_image(image)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """Return an (H, W, C) array as a (C, H, W) tensor, without a copy where the array allows it."""
    return torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)


def _to_array(pixels: torch.Tensor) -> np.ndarray:
    return pixels.permute(1, 2, 0).numpy()
