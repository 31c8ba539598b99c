"""A video with the detections in its frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from PIL import Image

from detrex.inspect.contact_sheet import draw_found
from detrex.inspect.pictures import Sample, Source
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.images import check_regular, is_address
from detrex.utils.optional import need_package

ENDINGS = {".mp4", ".mov", ".mkv", ".avi", ".webm"}
_CONTAINERS = "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif"  # FFmpeg's names


def draw_video(
    source: str | os.PathLike, path: str | os.PathLike, detectors: Sequence[Source]
) -> int:
    """Write a video's frames, side by side for each detector, as MP4; return their number.

    Playlists are not read, for they name other files and addresses.

    Raises:
        InputError: PyAV is missing, or the file is no video that it can read.
    """
    need_package("av", "detrex[video]")
    import av

    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    if is_address(str(source)):
        raise InputError(f"{source}: videos are read from files: download it first")
    try:
        check_regular(source)  # a FIFO would wait for ever
        with av.open(str(source), options=options) as reader, atomic_write(path, "wb") as stream:
            with av.open(stream, "w", format="mp4") as writer:
                return _copy(av, reader, writer, Sample(Path(source), ""), detectors)
    except (av.FFmpegError, FileNotFoundError, IndexError) as error:
        # IndexError: a file without a video stream
        raise InputError(f"{source}: cannot be read as a video: {error}") from None


def _copy(
    av: ModuleType, reader: object, writer: object, sample: Sample, detectors: Sequence[Source]
) -> int:
    source, target, count = reader.streams.video[0], None, 0
    for frame in reader.decode(source):
        count += 1
        row = _beside(frame.to_image(), sample, detectors)
        if target is None:
            target = writer.add_stream("libx264", rate=source.average_rate or 25)
            target.width, target.height, target.pix_fmt = *row.size, "yuv420p"
        writer.mux(target.encode(av.VideoFrame.from_image(row)))
    if target is not None:
        writer.mux(target.encode())  # the frames that the encoder still holds
    return count


def _beside(image: Image.Image, sample: Sample, detectors: Sequence[Source]) -> Image.Image:
    """The detectors' views in a row; sides are even, as the codec needs."""
    views = [draw_found(image, detect(sample, image)) for _, detect in detectors]
    width, height = (n // 2 * 2 for n in views[0].size)
    row = Image.new("RGB", (width * len(views), height))
    for i, view in enumerate(views):
        row.paste(view, (i * width, 0))
    return row
