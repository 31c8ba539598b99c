"""PASCAL VOC: an XML file per image, in a VOCdevkit, beside the images or in another folder.

Layout: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html
"""

from __future__ import annotations

import posixpath
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

from .files import Files, by_folder, closest, set_name, stem
from .split import Split
from .text import number, read_lines, read_text

Sets = dict[str, tuple[list[str], str]]  # split -> (XML files, origin)


def is_voc(files: Files) -> bool:
    """Whether there are XML files of VOC, or only files that do not parse."""
    tags = [_tag(_parse(files, path)) for path in files.ending(".xml")[:20]]
    return "annotation" in tags or (bool(tags) and not any(tags))


def read_voc(files: Files) -> dict[str, Split]:
    """Read XML files; the splits are the image sets of a VOCdevkit or of one year, or else folders.

    Where ``ImageSets/Main`` has a test set, all of trainval is for training (VOC 07+12, tested on
    2007's test); else train and val are the lists of that name. Objects marked difficult count like
    any other. Classes are in alphabetical order.
    """
    trees = {path: _parse(files, path) for path in files.ending(".xml")}
    for path in [path for path, tree in trees.items() if _tag(tree) not in (None, "annotation")]:
        del trees[path]
    images, rivals = files.pair({path: _names(path, tree) for path, tree in trees.items()})
    sets = _image_sets(files, trees) or by_folder(files, trees, images)
    classes = sorted({_text(o, "name") for paths, _ in sets.values() for path in paths
                      for o in _objects(trees[path])} - {""})  # fmt: skip
    splits = {}
    for name, (paths, origin) in sets.items():
        splits[name] = split = Split(files.root, classes, origin=origin)
        for path in paths:
            file, image = files.use(path), images.get(path)
            if path in rivals:
                split.note_missing_image(str(file), taken=True)
            else:
                _add(split, file, trees[path], image and files.use(image))
    return splits


def _image_sets(files: Files, trees: dict[str, ET.Element | None]) -> Sets:
    """Return the XML files of each split, from lists in ImageSets/Main or named like train.txt."""
    by_stem = defaultdict(list)
    for path in trees:
        by_stem[stem(path)].append(path)
    sets: dict[str, list[str]] = defaultdict(list)
    origins: dict[str, list[str]] = defaultdict(list)
    for file, name in _lists(files).items():
        paths = _listed(files, file, by_stem)
        if paths:
            sets[name] += paths
            origins[name].append(file)
    if "test" in sets and sets.keys() & {"train", "trainval"}:
        both = ["trainval"] if "trainval" in sets else ["train", "val"]
        chosen = {"train": both, "val": ["test"]}
    else:  # trainval only repeats train and val
        chosen = {name: [name] for name in sets if name != "trainval" or "train" not in sets}
    return {
        split: (
            [path for name in names for path in sets[name]],
            "from " + ", ".join(file for name in names for file in origins[name]),
        )
        for split, names in chosen.items()
    }


def _lists(files: Files) -> dict[str, str]:
    """Return text file -> the split whose images it lists."""
    texts = files.ending(".txt")
    sets = [path for path in texts if "imagesets/" in path.lower()]
    main = [path for path in sets if posixpath.dirname(path).lower().endswith("/main")]
    lists = {path: set_name(path) for path in main or sets or texts}
    named = {path: name for path, name in lists.items() if name}
    for path in sets:  # those of a class, or of segmentation, repeat the names
        files.use(path)
    # CVAT has one list, default.txt.
    return named or ({path: "train" for path in sets} if len(sets) == 1 else {})


def _listed(files: Files, file: str, by_stem: dict[str, list[str]]) -> list[str]:
    """Return the XML files that a list names, by image or by themselves; a second column, as in the
    lists of a class, is ignored."""
    paths = []
    for _, line in read_lines(files.use(file)):
        names = line, line.split()[0]  # names may have blanks
        candidates = next(filter(None, (by_stem.get(stem(name)) for name in names)), None)
        if candidates:
            paths.append(closest(candidates, file))
            continue
        image = next(filter(None, (files.image(name, file) for name in names)), None)
        kind = "images of lists without an XML file" if image else "names in lists without any file"
        files.notes[f"{kind}, left out"].append(f"{files.root / file}: {line}")
        if image:
            files.use(image)
    return list(dict.fromkeys(paths))


def _parse(files: Files, path: str) -> ET.Element | None:
    """Return the root of an XML file; None if it does not parse."""
    try:
        return ET.parse(files.root / path).getroot()
    except (ET.ParseError, ValueError, LookupError):
        pass
    # The encoding may be undeclared, or one that the parser lacks.
    head = re.compile(r"\s*<\?xml[^>]*?(?:encoding=[\"']([\w.-]+)[\"'][^>]*)?\?>")
    text = read_text(files.root / path)
    declared = head.match(text)
    try:
        if declared and declared[1]:
            text = (files.root / path).read_bytes().decode(declared[1])
        tree = ET.fromstring(head.sub("", text, count=1))
    except (ET.ParseError, ValueError, LookupError):
        return None
    if not (declared and declared[1]):
        files.note_encoding(path)
    return tree


def _fault(path: Path) -> str:
    """Return why a file does not parse; "" if it does."""
    try:
        ET.parse(path)
    except (ET.ParseError, ValueError, LookupError) as error:
        return str(error)
    return ""


def _tag(tree: ET.Element | None) -> str | None:
    return None if tree is None else tree.tag


def _objects(tree: ET.Element | None) -> list[ET.Element]:
    objects = [] if tree is None else tree.findall("object")
    return [item for item in objects if _text(item, "deleted") != "1"]  # in LabelMe's older XML


def _text(node: ET.Element | None, path: str) -> str:
    return ((node is not None and node.findtext(path)) or "").strip()


def _names(path: str, tree: ET.Element | None) -> list[str]:
    """Return names that an image may have: its XML file's, the stated one."""
    stated = _text(tree, "filename").replace("\\", "/")
    ending = posixpath.splitext(stated)[1]
    return [posixpath.splitext(posixpath.basename(path))[0] + (ending or ".jpg"), stated]


def _add(split: Split, file: Path, tree: ET.Element | None, image: Path | None) -> None:
    if tree is None:
        where = f"{file}: {_fault(file)}"
        split.problems["XML files that do not parse, left out"].append(where)
        return
    if image is None:
        stated = _text(tree, "filename") or f"{file.stem}.jpg"
        split.note_missing_image(f"{file}: {stated}", taken=False)
        return
    try:
        size = int(_text(tree, "size/width")), int(_text(tree, "size/height"))
    except ValueError:
        size = None
    entry = split.add_image(image, size)
    if entry is None:
        return
    objects = ((f"{file}: object {n}", item) for n, item in enumerate(_objects(tree), 1))

    def read(item: ET.Element) -> tuple[list[float], int]:
        return _corners(item), split.category_id(_text(item, "name"))

    split.add_objects(entry, objects, read, "objects without a name or a box, left out")


def _corners(item: ET.Element) -> list[float]:
    """Return x0, y0, x1, y1 of an object. Raises ValueError."""
    outline = item.findall("polygon/pt")
    if outline and item.find("bndbox") is None:  # LabelMe's older XML
        xs, ys = ([number(_text(point, axis)) for point in outline] for axis in "xy")
        return [min(xs), min(ys), max(xs), max(ys)]
    if item.find("bndbox") is None:
        raise ValueError(f"no bndbox, only {', '.join(child.tag for child in item) or 'nothing'}")
    x0, y0, x1, y1 = (number(_text(item, f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax"))
    # The devkit counts pixels from 1, and a box contains its last pixel.
    return [max(0.0, x0 - 1), max(0.0, y0 - 1), x1, y1]
