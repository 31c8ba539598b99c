"""Training batches of one drawn size.

Legend: B images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F

from detrex.modeling.detector import Images


class TrainSizes:
    """Mixed into a detector: each training batch is resized to a square.

    ``train_sizes``: sides of the square, one of them drawn at a time; empty: images stay as they
    are. So they do from iteration ``train_sizes_until`` on, a length as any other of a config;
    None: never. ``resize_mode``: how pixels are interpolated; masks take the nearest pixel.
    """

    iter = -1  # of the training loop, which sets it; -1: outside of it
    lengths: ClassVar = ("train_sizes_until",)
    resize_mode = "nearest"

    def __init__(
        self, *, train_sizes: Sequence[int] = (), train_sizes_until: int | None = None, **detector
    ) -> None:
        super().__init__(**detector)
        self.train_sizes, self.train_sizes_until = tuple(train_sizes), train_sizes_until

    def preprocess(self, batched_inputs: list[dict]) -> Images:
        images = super().preprocess(batched_inputs)
        over = self.train_sizes_until is not None and self.iter >= self.train_sizes_until
        if over or not (self.training and self.train_sizes):
            return images
        side = self.train_sizes[torch.randint(len(self.train_sizes), ()).item()]
        return resize(images, side, self.resize_mode)


def resize(images: Images, side: int, mode: str) -> Images:
    """Images and their padding as squares; boxes are relative."""
    height, width = images.pixels.shape[-2:]
    return Images(
        F.interpolate(images.pixels, (side, side), mode=mode),
        F.interpolate(images.mask[None].float(), (side, side))[0].bool(),
        [(round(h * side / height), round(w * side / width)) for h, w in images.sizes],
    )
