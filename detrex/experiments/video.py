"""A video with what detectors find in its frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from PIL import Image

from detrex.utils.contact_sheet import SheetItem, draw_item
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.optional import need_package

from .pictures import Sample, Source

ENDINGS = {".mp4", ".mov", ".mkv", ".avi", ".webm"}


def draw_video(
    source: str | os.PathLike, path: str | os.PathLike, detectors: Sequence[Source]
) -> int:
    """Write a video's frames, side by side for each detector, as MP4; return their number.

    Raises:
        InputError: PyAV is missing, or the file is no video that it can read.
    """
    need_package("av", "detrex[video]")
    import av

    try:
        with av.open(str(source)) as reader, atomic_write(path, "wb") as stream:
            with av.open(stream, "w", format="mp4") as writer:
                return _copy(av, reader, writer, Sample(Path(source), ""), detectors)
    except (av.FFmpegError, IndexError) as error:  # IndexError: a file without a video stream
        raise InputError(f"{source}: cannot be read as a video: {error}") from None


def _copy(
    av: ModuleType, reader: object, writer: object, sample: Sample, detectors: Sequence[Source]
) -> int:
    given, made, count = reader.streams.video[0], None, 0
    for frame in reader.decode(given):
        count += 1
        shown = _beside(frame.to_image(), sample, detectors)
        if made is None:
            made = writer.add_stream("libx264", rate=given.average_rate or 25)
            made.width, made.height, made.pix_fmt = *shown.size, "yuv420p"
        writer.mux(made.encode(av.VideoFrame.from_image(shown)))
    if made is not None:
        writer.mux(made.encode())  # what the encoder still holds
    return count


def _beside(image: Image.Image, sample: Sample, detectors: Sequence[Source]) -> Image.Image:
    """The detectors' views in a row; sides are even, as the codec needs."""
    width, height = (n // 2 * 2 for n in image.size)
    row = Image.new("RGB", (width * len(detectors), height))
    for i, (_, detect) in enumerate(detectors):
        item = SheetItem(image, (), detect(sample, image))
        row.paste(draw_item(item, max(image.size)), (i * width, 0))
    return row
