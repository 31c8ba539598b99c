"""Images with their true and detected boxes, ready for a contact sheet."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from detrex.data.coco_columns import Columns, class_names
from detrex.data.coco_format import read_coco
from detrex.data.coco_rules import image_file
from detrex.data.loader import MappedBatches
from detrex.data.sampler import Share
from detrex.data.windows import stages
from detrex.evaluation.coco_json import load_detections
from detrex.predict.predictor import Predictor
from detrex.utils.errors import InputError
from detrex.utils.images import is_address, is_image, open_image

from .contact_sheet import SheetItem
from .query_paths import query_paths

# Easy to tell apart on photographs, and black text is readable on them.
COLORS = "#ff6b6b #ffd43b #69db7c #4dabf7 #da77f2 #ffa94d #38d9a9 #f783ac #a9e34b #91a7ff".split()
BATCH = 4  # augmented images that are mixed with each other
Labelled = tuple[Sequence[float], str, float]  # box (xyxy pixels), label, score


@dataclass(frozen=True)
class Sample:
    """An image file or address, with its COCO id and true boxes (xyxy pixels, label) if known."""

    path: Path | str
    title: str
    image_id: int | None = None
    truth: Sequence[tuple[Sequence[float], str]] = ()


# The name of a detector, and the function that detects in a sample and its image.
Source = tuple[str, Callable[[Sample, Image.Image], list[Labelled]]]


def column_samples(
    columns: Columns, json_file: str, images: str | os.PathLike, count: int
) -> list[Sample]:
    """At most ``count`` images spread evenly over a data set, with their finite boxes."""
    names, samples = class_names(columns), []
    for index in spread(range(len(columns.image_id)), count):
        rows = slice(int(columns.first[index]), int(columns.first[index + 1]))
        boxes = columns.boxes(rows.start, rows.stop)
        pairs = zip(boxes.tolist(), columns.category[rows].tolist(), strict=True)
        truth = [(_corners(box), names[k]) for box, k in pairs if np.isfinite(box).all()]
        (name,) = columns.names(index, index + 1)
        path = Path(image_file(json_file, images, name))
        samples.append(Sample(path, name, int(columns.image_id[index]), truth))
    return samples


def dataset_samples(ground_truth: dict, images: str | os.PathLike, count: int) -> list[Sample]:
    """At most ``count`` images spread evenly over a data set (of ``load_ground_truth``)."""
    names = {c["id"]: c["name"] for c in ground_truth["categories"]}
    chosen = spread(ground_truth["images"], count)
    truth: dict[int, list] = {image["id"]: [] for image in chosen}
    for a in ground_truth["annotations"]:
        if a["image_id"] in truth:
            truth[a["image_id"]].append((_corners(a["bbox"]), names[a["category_id"]]))
    samples = []
    for image in chosen:
        path = image_file("ground truth", images, image["file_name"])
        samples.append(Sample(Path(path), image["file_name"], image["id"], truth[image["id"]]))
    return samples


def augmented(
    mapper: Callable[[dict], dict], json_file: str, images: str, count: int, max_iter: int = 1
) -> Iterator[SheetItem]:
    """Images of a data set as the training loader gives them to the model, with the boxes that are
    left; every call draws other augmentations.

    A mapper with windows, in iterations, shows the images once for each stage of a run of
    ``max_iter``.

    Raises:
        InputError: an image that cannot be used.
    """
    records, categories = read_coco(json_file, images)
    names = list(categories.values())
    batches = MappedBatches(records, mapper, random.getrandbits(32), skip_broken=False)
    indices = spread(range(len(records)), count)
    for first, end in stages(getattr(mapper, "windows", ()), max_iter):
        title = f", iterations {first} to {end - 1}" if batches.has_windows else ""
        for start in range(0, len(indices), BATCH):
            keys = [(0, i, indices[i]) for i in range(len(indices))[start : start + BATCH]]
            number = first + start // BATCH % (end - first)
            batch, _ = batches[Share(number, keys, 0, keys[-1])]
            if isinstance(batch, InputError):
                raise batch
            yield from (_augmented_item(sample, mapper, names, title) for sample in batch)


def _augmented_item(sample: dict, mapper: Callable, names: list[str], title: str) -> SheetItem:
    pixels = sample["image"].permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels if mapper.img_format == "RGB" else pixels[:, :, ::-1].copy())
    objects = sample["instances"]
    boxes = objects.gt_boxes.tensor.tolist()
    truth = [(box, names[label]) for box, label in zip(boxes, objects.gt_classes, strict=True)]
    return SheetItem(image, truth, title=f"{Path(sample['file_name']).name}{title}")


def spread(entries: Sequence, count: int) -> list:
    """At most ``count`` of the entries, at equal distances."""
    count = min(count, len(entries))
    return [entries[i * len(entries) // count] for i in range(count)]


def image_files(paths: Sequence[str | os.PathLike]) -> tuple[list[Path | str], list[Path]]:
    """The images of files, folders and addresses, and the other entries of the folders.

    Raises:
        InputError: a folder without an image.
    """
    images: list[Path | str] = []
    others: list[Path] = []
    for path in paths:
        if is_address(str(path)):
            images.append(str(path))
        elif not Path(path).is_dir():
            images.append(Path(path))
        else:
            inside = {entry: is_image(entry) for entry in sorted(Path(path).iterdir())}
            if not any(inside.values()):
                raise InputError(f"{path}: no image in this folder")
            images += [entry for entry, yes in inside.items() if yes]
            others += [entry for entry, yes in inside.items() if not yes]
    return images, others


def file_samples(paths: Sequence[str | os.PathLike], count: int) -> list[Sample]:
    """At most ``count`` of :func:`image_files`."""
    return [Sample(path, Path(path).name) for path in image_files(paths)[0][:count]]


def results_source(path: str | os.PathLike, ground_truth: dict | None, threshold: float) -> Source:
    """Detections of a COCO results file with a score of at least ``threshold``.

    Raises:
        InputError: the detections are not of this ground truth, or there is none.
    """
    if ground_truth is None:
        raise InputError(f"{path}: detections need their ground truth: give --json and --images")
    names = {c["id"]: c["name"] for c in ground_truth["categories"]}
    by_image: dict[int, list[Labelled]] = {}
    for d in load_detections(path, ground_truth):
        if d["score"] >= threshold:
            entry = _corners(d["bbox"]), names[d["category_id"]], d["score"]
            by_image.setdefault(d["image_id"], []).append(entry)
    return source_name(path), lambda sample, image: by_image.get(sample.image_id, [])


def model_source(path: str | os.PathLike, predictor: Predictor) -> Source:
    """Detections of a checkpoint's model."""
    return source_name(path), lambda sample, image: predictor.labelled(predictor(image))


def source_name(path: str | os.PathLike) -> str:
    """Folder and file without its ending: "demo/model_final"."""
    path = Path(path).resolve()
    return f"{path.parent.name}/{path.stem}"


def side_by_side(samples: Sequence[Sample], sources: Sequence[Source]) -> Iterator[SheetItem]:
    """A tile for each image; with several detectors, one of its truth and one for each detector."""
    for sample in samples:
        image = open_image(sample.path)
        if len(sources) <= 1:
            detections = sources[0][1](sample, image) if sources else ()
            yield SheetItem(image, sample.truth, detections, sample.title)
            continue
        yield SheetItem(image, sample.truth, title=sample.title)
        for name, detect in sources:
            yield SheetItem(image, (), detect(sample, image), name)


def by_layer(samples: Sequence[Sample], predictor: Predictor, count: int) -> Iterator[SheetItem]:
    """A tile of the truth, then one for every decoder layer.

    They show the ``count`` queries that are best after the last layer, each in its colour, labelled
    "#rank class score".
    """
    for sample in samples:
        image = open_image(sample.path)
        yield SheetItem(image, sample.truth, title=sample.title)
        paths = query_paths(predictor, image)[:count]
        for layer in range(len(paths[0].detections)):
            boxes = []
            for i, path in reversed(list(enumerate(paths))):  # the best on top
                box, label, score = path.detections[layer]
                text = f"#{path.ranks[layer]} {predictor.name(label)} {score:.2f}"
                boxes.append((box, text, COLORS[i % len(COLORS)]))
            yield SheetItem(image, title=f"layer {layer + 1}", others=boxes)


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, w, h = box
    return x, y, x + w, y + h
