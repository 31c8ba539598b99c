"""YOLO: a text file per image has a line per object; a YAML, or what is there, names splits and
classes.

Layout: https://docs.ultralytics.com/datasets/detect (boxes), .../segment (polygons), .../pose
(keypoints) and .../obb (turned boxes); darknet's obj.data, as CVAT writes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from detrex.utils.errors import InputError

from .files import Files, by_folder, set_name, stem
from .split import Split
from .text import is_number, number, read_lines
from .yolo_config import YoloConfig, read_config, resolve

FARTHEST = 2  # of a part of the image's side; annotation tools leave the image by little
Sets = dict[str, tuple[list[Path], str]]  # split -> (images, where that is said)


def is_yolo(files: Files) -> bool:
    """Whether text files of images' names hold labels."""
    images = {stem(path) for path in files.images}
    paths = (files.root / path for path in files.ending(".txt") if stem(path) in images)
    texts = [*islice((path for path in paths if path.stat().st_size), 50)]
    if any(map(_is_label_file, texts)):
        return True
    if texts:
        what = f"{_first_line(texts[0])!r:.80} is not class, x, y, width, height"
        files.reasons.append(f"{texts[0]}: {what}")
    return False


def _is_label_file(path: Path) -> bool:
    words = _first_line(path).split()
    return len(words) >= 5 and words[0].isdecimal() and all(map(is_number, words))


def _first_line(path: Path) -> str:
    return next((line for _, line in read_lines(path)), "")


def read_yolo(files: Files) -> dict[str, Split]:
    """Read a folder by its YAML or obj.data, or that file; else by train.txt and the like, or by
    the names of folders.

    Labels stand in ``labels`` in place of ``images``, beside the images, or elsewhere below the
    folder. Boxes are class, centre x and y, width, height as parts of the image's, and maybe a
    score, or keypoints where the YAML has ``kpt_shape``; polygons, four corners too, count with
    the box around them. Classes without names are called by their numbers.

    Raises:
        InputError: a YAML that is none, a training split that is not there, no label file at all.
    """
    config = read_config(files)
    sets = _config_sets(files, config) or _list_sets(files)
    everything = {path for paths, _ in sets.values() for path in paths}
    if not files.given:
        everything.update(files.root / path for path in files.images)
    labels = _label_files(files, everything)
    sets |= _folder_sets(files, labels, sets)
    if not labels and any(path.is_file() for path in everything):
        image = min(everything)
        places = f"{_in_labels(image)} and {image.with_suffix('.txt')}"
        raise InputError(f"{files.root}: no label file of any image; looked for {places}")
    names = _numbers(files, labels) if config.names is None else dict(enumerate(config.names))
    splits = {}
    for split_name, (paths, origin) in sets.items():
        folder = Path(os.path.commonpath([path.parent for path in paths]))
        splits[split_name] = split = Split(folder, list(names.values()), origin=origin)
        for path in paths:
            _add(split, files, path, labels.get(path), _Line(list(names), config.values))
    unused = set() if files.given else set(files.unused())
    for path in files.ending(".txt") if unused else ():
        if path in unused and _is_label_file(files.root / path):
            files.notes["label files without an image, left out"].append(str(files.use(path)))
    return splits


def _numbers(files: Files, labels: Mapping[Path, Path]) -> dict[int, str]:
    """The classes that occur, of labels whose classes have no names."""
    words = {line.split()[0] for file in labels.values() for _, line in read_lines(file)}
    numbers = sorted({int(word) for word in words if word.isdecimal()})
    names = {number: str(number) for number in numbers}
    files.notes["classes without names, called by their numbers"] += names.values()
    return names


def _config_sets(files: Files, config: YoloConfig) -> Sets:
    """Images of the splits that a config names; those besides train may be missing."""
    sets = {}
    for name, entries in config.splits.items():
        paths, missing = [], None
        for entry in entries:
            place = resolve(files, config.file, config.base, entry)
            if place is None:
                looked = config.file.parent / config.base / entry
                missing = f"{entry} not found; looked for {looked}"
            elif place.is_dir():
                paths += [place / path for path in Files(place).images]
            else:
                paths += _listed(files, place, config.file.parent / config.base)
        if not paths and not missing:
            missing = f"no images in {', '.join(entries)}"
        if missing and name == "train":
            raise InputError(f"{config.file}: {name}: {missing}")
        if missing:
            where = f"{config.file}: {name}: {missing}"
            files.notes["splits that are named and not there"].append(where)
        if paths:
            sets[name] = [*dict.fromkeys(paths)], f"from {', '.join(entries)}"
    return sets


def _list_sets(files: Files) -> Sets:
    """Images of the splits that train.txt and the like list."""
    sets = {}
    for path in files.ending(".txt"):
        name = set_name(path)
        lines = [line for _, line in read_lines(files.root / path)] if name else []
        if any(files.image(line, path) for line in lines[:20]):
            listed = _listed(files, files.use(path), files.root)
            sets.setdefault(name, ([*dict.fromkeys(listed)], f"from {path}"))
    return sets


def _listed(files: Files, file: Path, base: Path) -> list[Path]:
    """Image files of a list with a path per line."""
    paths = []
    for _, line in read_lines(files.use(file)):
        line = line.replace("\\", "/")
        places = file.parent / line, base / line
        exact = (Path(os.path.normpath(place)) for place in places if place.is_file())
        paths.append(next(exact, None) or files.image(line) or places[0])
    return paths


def _folder_sets(files: Files, labels: Mapping[Path, Path], sets: Sets) -> Sets:
    """Images by their folders, of folders that have labels at all: all, or the splits that others
    do not name."""
    if files.given:
        return {}
    taken = {path for paths, _ in sets.values() for path in paths}
    folders = {image.parent for image in labels}
    paths = {path: files.root / path for path in files.images}
    images = [p for p, path in paths.items() if path.parent in folders and path not in taken]
    return {
        name: ([files.root / path for path in paths], origin)
        for name, (paths, origin) in by_folder(files, images).items()
        if name not in sets and (name != "train" or not sets)
    }


def _label_files(files: Files, images: Iterable[Path]) -> dict[Path, Path]:
    """Image -> its label file, of those that have one."""
    labels = {}
    for image in images:
        places = _in_labels(image), image.with_suffix(".txt")
        if place := next((place for place in places if place.is_file()), None):
            labels[image] = files.use(place)
    if rest := set(images).difference(labels):
        taken = set(labels.values())
        texts = [path for path in files.ending(".txt") if files.root / path not in taken]
        pairs, _ = files.pair({path: [stem(path)] for path in texts})
        for path, image in pairs.items():
            if image in rest:
                labels[image] = files.use(files.root / path)
    return labels


def _in_labels(image: Path) -> Path:
    """``labels`` in place of the path's last ``images``."""
    parts = list(image.with_suffix(".txt").parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts)


class _Line(NamedTuple):
    """What a line of labels may hold: these numbers of classes, and ``values`` in all where it has
    keypoints (0: none have)."""

    classes: list[int]
    values: int

    def parse(self, words: Sequence[str]) -> tuple[int, list[float]]:
        """Index of the class and x0, y0, x1, y1 as parts of the image's. Raises ValueError."""
        label, *numbers = map(number, words)
        if label not in self.classes:
            raise ValueError(f"class {words[0]}, there are {len(self.classes)}")
        index = self.classes.index(label)
        if self.values and len(words) not in (5, self.values):
            raise ValueError(f"{len(words)} values, with keypoints there are {self.values}")
        if self.values or len(words) in (5, 6):
            x, y, w, h = _parts(numbers[:4])
            return index, [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        if len(numbers) < 6 or len(numbers) % 2:
            raise ValueError(f"{len(words)} values")
        xs, ys = _parts(numbers[0::2]), _parts(numbers[1::2])
        return index, [min(xs), min(ys), max(xs), max(ys)]


def _parts(numbers: list[float]) -> list[float]:
    """The numbers. Raises ValueError for what is far from 0 to 1, as pixels are."""
    for value in numbers:
        if abs(value) > FARTHEST:
            raise ValueError(f"{value:g} is a pixel, no part of the image's side (0 to 1)")
    return numbers


def _add(split: Split, files: Files, path: Path, labels: Path | None, form: _Line) -> None:
    image = split.add_image(files.use(path))
    if image is None:
        return
    if labels is None:
        kind = "images without a label file, taken as without objects"
        split.problems[kind].append(image["file_name"])
        return
    for count, line in read_lines(labels):
        try:
            index, corners = form.parse(line.split())
        except ValueError as error:
            kind = "lines that are not class, x, y, width, height, left out"
            split.problems[kind].append(f"{labels}:{count}: {error}")
            continue
        sides = (image["width"], image["height"]) * 2
        split.add_box(image, index + 1, [c * s for c, s in zip(corners, sides, strict=True)])
