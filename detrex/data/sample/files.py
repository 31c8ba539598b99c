"""A small detection data set from what two Python packages ship: real photographs with real
handwritten digits drawn on them, in COCO format, made without a network.

The photographs are scikit-image's (and two of scikit-learn's), the digits are scikit-learn's 8x8
scans (UCI "Optical Recognition of Handwritten Digits"). Train and val share neither a photograph
nor a digit, whatever the seed. A box is the tight extent of the whole stroke, as [x, y, w, h] in
pixels; where something covers part of a digit (at most 35 % of its stroke) the box still spans
all of it, and ``covered`` in the annotation says how much is hidden.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from detrex.utils.errors import InputError

from .scene import Drawn, compose

PHOTOGRAPHS = {
    "train": (
        *("astronaut", "brick", "camera", "coins", "grass", "hubble_deep_field"),
        *("immunohistochemistry", "moon", "rocket", "stereo_motorcycle", "china.jpg"),
    ),
    "val": ("chelsea", "coffee", "gravel", "flower.jpg"),
}
META = "sample_data.json"


def make_sample_data(
    output: str | os.PathLike, train: int = 1000, val: int = 200, size: int = 256, seed: int = 0
) -> dict:
    """Write ``train.json``, ``val.json`` and the JPEG folders ``train/``, ``val/`` to ``output``.

    ``train`` and ``val`` count images of ``size`` x ``size`` pixels; the same arguments give the
    same bytes. The folder appears under its name only when complete. A complete data set of the
    same parameters is left as it is and reused.

    Returns the content of ``sample_data.json``: ``parameters`` and, per split, ``images``,
    ``objects``, ``occluded`` (objects partly hidden) and ``bytes``.
    Raises InputError for counts or sizes that make no sense, for an ``output`` that holds
    something else, and when scikit-image or scikit-learn is missing.
    """
    output = Path(output)
    parameters = {"train": train, "val": val, "size": size, "seed": seed}
    if min(train, val) < 1 or size < 128 or seed < 0:
        raise InputError(f"sample data needs train, val >= 1, size >= 128, seed >= 0: {parameters}")
    existing = _existing(output, parameters)
    if existing is not None:
        return existing
    output.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    try:
        splits = {
            split: _write_split(building, split, count, size, seed)
            for split, count in (("train", train), ("val", val))
        }
        meta = {"parameters": parameters, "splits": splits}
        (building / META).write_text(json.dumps(meta, indent=1))
        building.chmod(0o755)  # mkdtemp's folders are private
        building.replace(output)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return meta


def _existing(output: Path, parameters: dict) -> dict | None:
    """Return the metadata of a complete data set at ``output``; None if there is nothing yet."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    try:
        meta = json.loads((output / META).read_text())
        complete = all(
            (output / f"{split}.json").is_file()
            and len(list((output / split).glob("*.jpg"))) == counts["images"]
            for split, counts in meta["splits"].items()
        )
        if complete and meta["parameters"] == parameters:
            return meta
        what = f"sample data of {meta['parameters']}" + ("" if complete else ", incomplete")
    except (OSError, ValueError, KeyError, TypeError):
        what = "something else"
    raise InputError(f"{output}: holds {what}; remove it or choose another output folder")


def _write_split(folder: Path, split: str, count: int, size: int, seed: int) -> dict:
    photographs, digits = load_photographs(split), load_digit_scans(split)
    (folder / split).mkdir()
    images, annotations, written = [], [], 0
    for i in range(count):
        # one stream per image: a picture does not depend on how many others are made
        rng = np.random.default_rng([seed, split == "val", i])
        scene = compose(rng, photographs, digits, size)
        name = f"{i + 1:06d}.jpg"
        picture = Image.fromarray((scene.pixels * 255).round().astype(np.uint8))
        picture.save(folder / split / name, quality=90)
        written += (folder / split / name).stat().st_size
        images.append({"id": i + 1, "file_name": name, "width": size, "height": size})
        for digit in scene.digits:
            annotations.append(_annotation(len(annotations) + 1, i + 1, digit))
    coco = {
        "info": {"description": f"handwritten digits on photographs, {split}", "version": "1"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": d + 1, "name": str(d), "supercategory": "digit"} for d in range(10)],
    }
    (folder / f"{split}.json").write_text(json.dumps(coco))
    occluded = sum(a["covered"] > 0 for a in annotations)
    return dict(images=count, objects=len(annotations), occluded=occluded, bytes=written)


def _annotation(annotation_id: int, image_id: int, digit: Drawn) -> dict:
    """Return a COCO annotation. ``area`` is the box's: there is no mask, and COCO sorts by it."""
    x, y, w, h = digit.box
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": digit.label + 1,
        "bbox": [x, y, w, h],
        "area": w * h,
        "iscrowd": 0,
        "covered": round(float(digit.covered), 3),
    }


@lru_cache
def load_photographs(split: str) -> tuple[np.ndarray, ...]:
    """Return the photographs of a split, each (H, W, 3) float32 in [0, 1]."""
    try:
        from skimage import data
        from sklearn.datasets import load_sample_image
    except ImportError as error:
        raise _missing(error) from None

    def load(name: str) -> np.ndarray:
        pixels = load_sample_image(name) if name.endswith(".jpg") else getattr(data, name)()
        pixels = pixels[0] if isinstance(pixels, tuple) else pixels  # a stereo pair: the left one
        rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
        return rgb.astype(np.float32) / 255

    return tuple(load(name) for name in PHOTOGRAPHS[split])


@lru_cache
def load_digit_scans(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a split's handwritten digits: scans (N, 8, 8) float32 in [0, 1] and labels (N,).

    Val has a random fifth of all scans, the same one for every seed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise _missing(error) from None
    scans, labels = load_digits().images.astype(np.float32) / 16, load_digits().target
    order = np.random.default_rng(0).permutation(len(labels))
    held_out = len(labels) // 5
    mine = order[:held_out] if split == "val" else order[held_out:]
    return scans[mine], labels[mine]


def _missing(error: ImportError) -> InputError:
    return InputError(f"sample data: {error}; run `pip install scikit-image scikit-learn`")
