"""YOLO: a text file per image with a line per object; a YAML, or else the folders and lists, names
splits and classes.

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
from .split import Split, in_pixels
from .text import is_number, number, read_lines
from .yolo_config import YoloConfig, read_config, resolve

FARTHEST = 2  # fraction of the image's side; tools draw boxes a little beyond the image
Sets = dict[str, tuple[list[Path], str]]  # split -> (images, origin)


def is_yolo(files: Files) -> bool:
    """Whether text files with the names of images hold labels."""
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
    """Read a data set. The YAML or obj.data says the splits, else train.txt and the like, else the
    names of folders.

    Label files are in ``labels`` in place of ``images``, beside the images, or elsewhere below the
    folder. A line is class, centre x and y, width and height in fractions of the image's, then
    maybe a score, or keypoints where the YAML has ``kpt_shape``. For polygons (four corners too)
    the box around them is taken. Classes without names are named by their numbers.

    Raises:
        InputError: a file that is no YAML, no training split, or no label file at all.
    """
    config = read_config(files)
    sets = _config_sets(files, config) or _list_sets(files)
    everything = {path for paths, _ in sets.values() for path in paths}
    if not files.single:
        everything.update(files.root / path for path in files.images)
    labels = _label_files(files, everything)
    sets |= _folder_sets(files, labels, sets)
    if not labels and any(path.is_file() for path in everything):
        image = min(everything)
        looked = f"{_in_labels(image)} and {image.with_suffix('.txt')}"
        raise InputError(f"{files.root}: no label file of any image; looked for {looked}")
    names = _numbers(files, labels) if config.names is None else dict(enumerate(config.names))
    splits = {}
    for split_name, (paths, origin) in sets.items():
        folder = Path(os.path.commonpath([path.parent for path in paths]))
        splits[split_name] = split = Split(folder, list(names.values()), origin=origin)
        for path in paths:
            _add(split, files, path, labels.get(path), _Line(list(names), config.values))
    unused = set() if files.single else set(files.unused())
    for path in files.ending(".txt") if unused else ():
        if path in unused and _is_label_file(files.root / path):
            files.notes["label files without an image, left out"].append(str(files.use(path)))
    return splits


def _config_sets(files: Files, config: YoloConfig) -> Sets:
    """Return the images of the splits that a config names; all but train may be missing."""
    sets = {}
    for name, entries in config.splits.items():
        paths, missing = [], None
        for entry in entries:
            path = resolve(files, config.file, config.base, entry)
            if path is None:
                looked = config.file.parent / config.base / entry
                missing = f"{entry} not found; looked for {looked}"
            elif path.is_dir():
                paths += [path / image for image in Files(path).images]
            else:
                paths += _listed(files, path, config.file.parent / config.base)
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
    """Return the images of the splits that train.txt and the like list."""
    sets = {}
    for path in files.ending(".txt"):
        name = set_name(path)
        lines = [line for _, line in read_lines(files.root / path)] if name else []
        if any(files.image(line, path) for line in lines[:20]):
            listed = _listed(files, files.use(path), files.root)
            sets.setdefault(name, ([*dict.fromkeys(listed)], f"from {path}"))
    return sets


def _listed(files: Files, file: Path, base: Path) -> list[Path]:
    """Return the image files of a list with a path per line."""
    paths = []
    for _, line in read_lines(files.use(file)):
        line = line.replace("\\", "/")
        candidates = file.parent / line, base / line
        exact = (Path(os.path.normpath(path)) for path in candidates if path.is_file())
        paths.append(next(exact, None) or files.image(line) or candidates[0])
    return paths


def _label_files(files: Files, images: Iterable[Path]) -> dict[Path, Path]:
    """Return image -> label file, for images that have one."""
    labels = {}
    for image in images:
        candidates = _in_labels(image), image.with_suffix(".txt")
        if path := next((path for path in candidates if path.is_file()), None):
            labels[image] = files.use(path)
    if rest := set(images).difference(labels):
        taken = set(labels.values())
        texts = [path for path in files.ending(".txt") if files.root / path not in taken]
        pairs, _ = files.pair({path: [stem(path)] for path in texts})
        for path, image in pairs.items():
            if image in rest:
                labels[image] = files.use(files.root / path)
    return labels


def _in_labels(image: Path) -> Path:
    """Return the label file's path, with ``labels`` in place of the last ``images``."""
    names = list(image.with_suffix(".txt").parts)
    if "images" in names:
        names[len(names) - 1 - names[::-1].index("images")] = "labels"
    return Path(*names)


def _folder_sets(files: Files, labels: Mapping[Path, Path], sets: Sets) -> Sets:
    """Return the images of splits that folders name and ``sets`` lacks, in folders with labels."""
    if files.single:
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


def _numbers(files: Files, labels: Mapping[Path, Path]) -> dict[int, str]:
    """Return the numbers of the classes in label files, each named by its number."""
    words = {line.split()[0] for file in labels.values() for _, line in read_lines(file)}
    numbers = sorted({int(word) for word in words if word.isdecimal()})
    names = {number: str(number) for number in numbers}
    files.notes["classes without names, called by their numbers"] += names.values()
    return names


def _add(split: Split, files: Files, path: Path, labels: Path | None, form: _Line) -> None:
    image = split.add_image(files.use(path))
    if image is None:
        return
    if labels is None:
        kind = "images without a label file, taken as without objects"
        split.problems[kind].append(image["file_name"])
        return
    objects = ((f"{labels}:{number}", line.split()) for number, line in read_lines(labels))

    def read(words: Sequence[str]) -> tuple[list[float], int]:
        index, corners = form.parse(words)
        return in_pixels(image, corners), index + 1

    kind = "lines that are not class, x, y, width, height, left out"
    split.add_objects(image, objects, read, kind)


class _Line(NamedTuple):
    """The form of label lines: the numbers of the classes, and how many values a line with
    keypoints has (0: there are no keypoints)."""

    classes: list[int]
    values: int

    def parse(self, words: Sequence[str]) -> tuple[int, list[float]]:
        """Return the class's index and x0, y0, x1, y1 in fractions of the image's size.

        Raises ValueError for a line of another form.
        """
        label, *numbers = map(number, words)
        if label not in self.classes:
            raise ValueError(f"class {words[0]}, there are {len(self.classes)}")
        index = self.classes.index(label)
        if self.values and len(words) not in (5, self.values):
            raise ValueError(f"{len(words)} values, with keypoints there are {self.values}")
        if self.values or len(words) in (5, 6):
            x, y, w, h = _fractions(numbers[:4])
            return index, [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        if len(numbers) < 6 or len(numbers) % 2:
            raise ValueError(f"{len(words)} values")
        xs, ys = _fractions(numbers[0::2]), _fractions(numbers[1::2])
        return index, [min(xs), min(ys), max(xs), max(ys)]


def _fractions(numbers: list[float]) -> list[float]:
    """Return the numbers. Raises ValueError for pixels: numbers far from 0 to 1."""
    for value in numbers:
        if abs(value) > FARTHEST:
            raise ValueError(f"{value:g} is a pixel, not a fraction of the image's side (0 to 1)")
    return numbers
