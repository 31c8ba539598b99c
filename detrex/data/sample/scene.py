"""Drawing one picture of the sample data: digits, and what hides them, on a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

SIDES = (16, 44, 96)  # least, most frequent and largest long side of a box, pixels
MAX_OBJECTS = 6
MAX_TILT = 30.0  # degrees; more would turn a 6 into a 9
MIN_CONTRAST, MAX_CONTRAST = 0.4, 0.7  # luminance of the stroke against what it is drawn on
VISIBLE = 0.25  # opacity from which a pixel counts as part of the stroke
MAX_OVERLAP = 0.3  # of two boxes, in areas of the smaller one
MAX_COVERED = 0.35  # share of a stroke that may be hidden
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass
class Drawn:
    """A digit on a scene: its label, full stroke and still visible stroke, both (H, W) bool."""

    label: int
    stroke: np.ndarray
    visible: np.ndarray

    @property
    def covered(self) -> float:
        return 1 - self.visible.sum() / self.stroke.sum()

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Tight extent of the full stroke, (x, y, w, h)."""
        columns, rows = self.stroke.any(0).nonzero()[0], self.stroke.any(1).nonzero()[0]
        x, y = int(columns[0]), int(rows[0])
        return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


@dataclass
class Scene:
    """A picture in the making: ``pixels`` (H, W, 3) float in [0, 1] and the digits on it."""

    pixels: np.ndarray
    digits: list[Drawn] = field(default_factory=list)

    def may_hide(self, mask: np.ndarray) -> bool:
        """Whether every digit stays readable when ``mask`` (H, W) bool is painted over."""
        return all(
            (d.visible & ~mask).sum() >= (1 - MAX_COVERED) * d.stroke.sum() for d in self.digits
        )

    def hide(self, mask: np.ndarray) -> None:
        for digit in self.digits:
            digit.visible &= ~mask


def compose(
    rng: np.random.Generator,
    photographs: Sequence[np.ndarray],
    digits: tuple[np.ndarray, np.ndarray],
    size: int,
    most: int = MAX_OBJECTS,
) -> Scene:
    """One picture: a crop of a photograph, 1 to ``most`` digits, now and then a patch over one.

    ``photographs`` are (H, W, 3) in [0, 1]; ``digits`` are scans (N, 8, 8) in [0, 1] and labels
    (N,), drawn from with every class as likely; ``size`` is the picture's side in pixels.
    """
    scans, labels = digits
    scene = Scene(_background(rng, photographs, size))
    for _ in range(rng.integers(1, most + 1)):
        label = rng.integers(10)
        scan = scans[rng.choice(np.flatnonzero(labels == label))]
        side = round(rng.triangular(SIDES[0] + 1, SIDES[1], SIDES[2]))
        _draw(rng, scene, render_stroke(scan, side, rng.uniform(-MAX_TILT, MAX_TILT)), int(label))
    if rng.random() < 0.4:
        _cover_one(rng, scene, photographs)
    return scene


def _background(
    rng: np.random.Generator, photographs: Sequence[np.ndarray], size: int
) -> np.ndarray:
    """A random square of a random photograph, mirrored half of the time, (size, size, 3)."""
    photograph = photographs[rng.integers(len(photographs))]
    height, width = photograph.shape[:2]
    side = int(min(height, width) * rng.uniform(0.5, 1.0))
    y, x = rng.integers(height - side + 1), rng.integers(width - side + 1)
    crop = (photograph[y : y + side, x : x + side] * 255).round().astype(np.uint8)
    pixels = np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.LANCZOS))
    return pixels[:, :: rng.choice([1, -1])].astype(np.float32) / 255


def render_stroke(scan: np.ndarray, side: int, tilt: float) -> np.ndarray:
    """An 8x8 scan as a smooth pen stroke: opacity (h, w) in [0, 1], longer side ``side`` pixels.

    The scan is enlarged and tilted (degrees) as a smooth surface first, then cut by a steep ramp:
    that gives an edge as sharp as the scan's grey levels allow instead of 8x8 blur.
    """
    canvas = Image.fromarray(np.pad(scan, 3))
    canvas = canvas.resize((224, 224), Image.Resampling.BICUBIC)
    surface = np.asarray(canvas.rotate(tilt, Image.Resampling.BICUBIC))
    opacity = np.clip((surface - 0.3) / 0.25, 0, 1)
    inked = opacity > VISIBLE
    rows, columns = inked.any(1).nonzero()[0], inked.any(0).nonzero()[0]
    tight = opacity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = side / max(tight.shape)
    width, height = (max(1, round(n * scale)) for n in tight.shape[::-1])
    small = Image.fromarray(tight).resize((width, height), Image.Resampling.BOX)
    return np.asarray(small)


def _draw(rng: np.random.Generator, scene: Scene, opacity: np.ndarray, label: int) -> None:
    """Put a stroke where it hides little of the others; a crowded scene may stay without it."""
    size, (height, width) = len(scene.pixels), opacity.shape
    for _ in range(20):
        y, x = rng.integers(size - height + 1), rng.integers(size - width + 1)
        alpha = np.zeros((size, size), dtype=np.float32)
        alpha[y : y + height, x : x + width] = opacity
        stroke = alpha > VISIBLE
        if not scene.may_hide(stroke) or _crowded(scene, (x, y, width, height)):
            continue
        ink = _ink(rng, scene.pixels[stroke])
        scene.pixels += alpha[..., None] * (ink - scene.pixels)
        scene.hide(stroke)
        scene.digits.append(Drawn(label, stroke, stroke.copy()))
        return


def _crowded(scene: Scene, box: tuple[int, int, int, int]) -> bool:
    """Whether a box overlaps a digit's by more than ``MAX_OVERLAP``."""
    x, y, w, h = box
    for digit in scene.digits:
        dx, dy, dw, dh = digit.box
        across = max(0, min(x + w, dx + dw) - max(x, dx))
        down = max(0, min(y + h, dy + dh) - max(y, dy))
        if across * down > MAX_OVERLAP * min(w * h, dw * dh):
            return True
    return False


def _ink(rng: np.random.Generator, under: np.ndarray) -> np.ndarray:
    """A colour (3,) of any tint that stands out from the pixels ``under`` (M, 3) the stroke."""
    mean = float(under.mean(0) @ LUMA)
    signs = [s for s in (-1, 1) if 0 <= mean + s * MIN_CONTRAST <= 1]
    luma = np.clip(mean + rng.choice(signs) * rng.uniform(MIN_CONTRAST, MAX_CONTRAST), 0, 1)
    tint = rng.uniform(-1, 1, 3)
    tint -= tint @ LUMA  # changes the hue, not the luminance
    room = np.min(np.where(tint > 0, 1 - luma, luma) / np.abs(tint).clip(1e-6))
    return (luma + rng.uniform(0, 0.9) * room * tint).astype(np.float32)


def _cover_one(rng: np.random.Generator, scene: Scene, photographs: Sequence[np.ndarray]) -> None:
    """Lay a patch of a photograph over part of one digit, where a fitting place is found."""
    target = scene.digits[rng.integers(len(scene.digits))]
    x, y, w, h = target.box
    size = len(scene.pixels)
    source = _background(rng, photographs, size)
    for _ in range(20):
        width, height = (int(n * rng.uniform(0.3, 0.7)) for n in (w, h))
        left = int(np.clip(x + rng.uniform(-0.2, 1.0) * w, 0, size - width))
        top = int(np.clip(y + rng.uniform(-0.2, 1.0) * h, 0, size - height))
        patch = np.zeros((size, size), dtype=bool)
        patch[top : top + height, left : left + width] = True
        hidden = (target.visible & patch).sum() / target.stroke.sum()
        if hidden >= 0.1 and scene.may_hide(patch):
            scene.pixels[patch] = source[patch]
            scene.hide(patch)
            return
