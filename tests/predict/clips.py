"""Small videos."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image


def write_clip(path: Path, reds: Sequence[int]) -> None:
    """A video of 64x48 at 10 frames a second: a frame for each amount of red, 0 to 255."""
    import av

    with av.open(str(path), "w") as writer:
        stream = writer.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for red in reds:
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48), (red, 0, 0)))
            writer.mux(stream.encode(frame))
        writer.mux(stream.encode())
