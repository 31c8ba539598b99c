"""A video, or the stream of a camera, with the detections in its frames."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType

from PIL import Image

from detrex.inspect.contact_sheet import draw_found
from detrex.inspect.pictures import Sample, Source
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.images import TIMEOUT, check_regular, is_address
from detrex.utils.optional import need_package

ENDINGS = {".mp4", ".mov", ".mkv", ".avi", ".webm"}
_CONTAINERS = "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif"  # FFmpeg's names
_STREAMS = f"{_CONTAINERS},rtsp,rtp,mjpeg,mpjpeg,h264,hevc"
_NETWORK = "http,https,httpproxy,rtsp,rtsps,rtmp,rtmps,rtp,srtp,srt,udp,tcp,tls,crypto"
_RATE = 25  # frames a second of a stream that does not say


def draw_video(
    source: str | os.PathLike,
    path: str | os.PathLike,
    detectors: Sequence[Source],
    count: int | None = None,
) -> int:
    """Write a video's frames, side by side for each detector, as MP4; return their number.

    A camera or a stream has no end: Ctrl-C ends it, and what is drawn so far is complete. Playlists
    are not read, for they name other files and addresses.

    Args:
        source: a file, a camera (/dev/video0), or an address (rtsp, http, udp, ...).
        path: of the MP4.
        detectors: what is drawn.
        count: frames after which it ends.

    Raises:
        InputError: PyAV is missing, or the source is no video that it can read.
    """
    need_package("av", "detrex[video]")
    import av

    try:
        with av.open(str(source), **_options(source)) as reader:
            with atomic_write(path, "wb") as stream:
                with av.open(stream, "w", format="mp4") as writer:
                    pictures = _pictures(reader, Sample(Path(source), ""), detectors)
                    rate = reader.streams.video[0].average_rate or _RATE
                    return _write(av, writer, islice(pictures, count), rate, _is_live(source))
    except (av.FFmpegError, FileNotFoundError, PermissionError, IndexError) as error:
        # IndexError: a file without a video stream
        raise InputError(f"{source}: cannot be read as a video: {error}") from None


def _is_live(source: str | os.PathLike) -> bool:
    return is_address(source) or stat.S_ISCHR(os.stat(source).st_mode)


def _options(source: str | os.PathLike) -> dict:
    """How FFmpeg may open a source: a file names no address, an address no file."""
    if is_address(source):
        limits = {"format_whitelist": _STREAMS, "protocol_whitelist": _NETWORK}
        return {"options": limits, "timeout": float(TIMEOUT)}
    if _is_live(source):
        return {"format": "v4l2"}
    check_regular(source)  # a FIFO would wait for ever
    return {"options": {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}}


def _pictures(reader: object, sample: Sample, detectors: Sequence[Source]) -> Iterator[Image.Image]:
    for frame in reader.decode(reader.streams.video[0]):
        yield _beside(frame.to_image(), sample, detectors)


def _write(
    av: ModuleType, writer: object, pictures: Iterable[Image.Image], rate: object, live: bool
) -> int:
    """Write pictures as a video, of a live source until Ctrl-C; return their number."""
    target, count = None, 0
    try:
        for picture in pictures:
            if target is None:
                target = writer.add_stream("libx264", rate=rate)
                target.width, target.height, target.pix_fmt = *picture.size, "yuv420p"
            writer.mux(target.encode(av.VideoFrame.from_image(picture)))
            count += 1
    except KeyboardInterrupt:
        if not live:
            raise
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
