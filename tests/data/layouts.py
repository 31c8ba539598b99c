"""One small data set, written in every layout that can be read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ["ant", "bee", "crow"]
SIZES = {"a": (40, 30), "b": (30, 40), "c": (60, 20), "d": (50, 50)}  # width, height
SPLITS = {"train": ["a", "b", "c"], "val": ["d"]}
# class, x, y, width, height in pixels
BOXES = {"a": [(0, 4, 3, 10, 12), (2, 20, 0, 20, 30)], "b": [(1, 3, 4, 6, 8)], "c": [], "d": []}
BOXES["d"] = [(0, 5, 5, 10, 10)]


def write_image(path: Path, size: tuple[int, int], seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_images(folders: dict[str, Path]) -> None:
    for split, names in SPLITS.items():
        for name in names:
            write_image(folders[split] / f"{name}.jpg", SIZES[name], ord(name))


def write_yolo(root: Path) -> None:
    write_images({split: root / "images" / split for split in SPLITS})
    for split, names in SPLITS.items():
        for name in names:
            w, h = SIZES[name]
            lines = [
                f"{c} {(x + bw / 2) / w} {(y + bh / 2) / h} {bw / w} {bh / h}\n"
                for c, x, y, bw, bh in BOXES[name]
            ]
            path = root / "labels" / split / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            if lines:
                path.write_text("".join(lines))
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [ant, bee, crow]")


def voc_xml(name: str) -> str:
    objects = "".join(
        f"<object><name>{CLASSES[c]}</name><difficult>0</difficult><bndbox>"
        f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>"
        "</bndbox></object>"
        for c, x, y, w, h in BOXES[name]
    )
    width, height = SIZES[name]
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>"


def write_voc(root: Path) -> None:
    """VOCdevkit with two years: trainval of both, test of the first."""
    for year, sets in {
        "VOC2007": {"trainval": ["a"], "test": ["d"]},
        "VOC2012": {"trainval": ["b", "c"], "train": ["b"], "val": ["c"]},
    }.items():
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (root / year / folder).mkdir(parents=True)
        for set_name, names in sets.items():
            (root / year / f"ImageSets/Main/{set_name}.txt").write_text("\n".join(names) + "\n")
            # sets of a class have a second column
            lines = "\n".join(f"{name}  1" for name in names)
            (root / year / f"ImageSets/Main/ant_{set_name}.txt").write_text(lines)
            for name in names:
                (root / year / f"Annotations/{name}.xml").write_text(voc_xml(name))
                write_image(root / year / f"JPEGImages/{name}.jpg", SIZES[name], ord(name))


def write_open_images(root: Path) -> None:
    """V6's files; image c has no boxes and so is in no CSV, image "gone" is not there."""
    write_images({"train": root / "train", "val": root / "validation"})
    codes = [f"/m/0{i}" for i in range(len(CLASSES))]
    with (root / "class-descriptions-boxable.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(zip(codes, CLASSES, strict=True))
    for split, file in (("train", "oidv6-train"), ("val", "validation")):
        rows = []
        for name in SPLITS[split]:
            w, h = SIZES[name]
            for c, x, y, bw, bh in BOXES[name]:
                box = x / w, (x + bw) / w, y / h, (y + bh) / h
                rows.append([name, "xclick", codes[c], 1, *box, 0, 0, int(c == 2), 0, 0])
        rows.append(["gone" if split == "train" else "d", "xclick", *rows[-1][2:]])
        columns = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,"
        with (root / f"{file}-annotations-bbox.csv").open("w", newline="") as stream:
            stream.write(f"{columns}IsGroupOf,IsDepiction,IsInside\n")
            csv.writer(stream).writerows(rows if split == "train" else rows[:-1])


def coco_content(names: list[str], path: str = "{}.jpg") -> dict:
    images = [
        dict(id=ord(n), file_name=path.format(n), width=SIZES[n][0], height=SIZES[n][1])
        for n in names
    ]
    boxes = [(name, *box) for name in names for box in BOXES[name]]
    annotations = [
        dict(id=i, image_id=ord(name), category_id=c + 1, bbox=box, area=box[2] * box[3], iscrowd=0)
        for i, (name, c, *box) in enumerate(boxes, 1)
    ]
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    return dict(images=images, annotations=annotations, categories=categories)


def write_objects365(root: Path) -> None:
    write_images({split: root / split / "patch7" for split in SPLITS})
    (root / "annotations").mkdir(parents=True)
    for split, names in SPLITS.items():
        content = coco_content(names, "images/v1/patch7/{}.jpg")
        gone = dict(id=1, file_name="images/v2/patch16/gone.jpg", width=9, height=9)
        content["images"].insert(0, gone)
        (root / f"annotations/zhiyuan_objv2_{split}.json").write_text(json.dumps(content))


def write_crowdhuman(root: Path) -> None:
    """One class only; a mask and a person to ignore in a, an image that is not there."""
    write_images({split: root / "Images" for split in SPLITS})
    for split, names in SPLITS.items():
        lines = []
        for name in names:
            people = [
                {"tag": "person", "fbox": box, "vbox": [0, 0, 1, 1], "extra": {"box_id": 0}}
                for _, *box in BOXES[name]
            ]
            if name == "a":
                people.append({"tag": "mask", "fbox": [1, 2, 3, 4], "extra": {"ignore": 1}})
                people.append({"tag": "person", "fbox": [-5, 2, 9, 4], "extra": {"ignore": 1}})
            lines.append(json.dumps({"ID": name, "gtboxes": people}))
        lines.append(json.dumps({"ID": "gone", "gtboxes": []}))
        (root / f"annotation_{split}.odgt").write_text("\n".join(lines) + "\n")


def write_coco(root: Path) -> None:
    write_images({split: root / f"{split}2017" for split in SPLITS})
    (root / "annotations").mkdir(parents=True)
    for split, names in SPLITS.items():
        text = json.dumps(coco_content(names))
        (root / f"annotations/instances_{split}2017.json").write_text(text)
        (root / f"annotations/captions_{split}2017.json").write_text(text)


def write_labelme(root: Path) -> None:
    """A JSON beside each image; boxes as rectangles, polygons and circles in turn."""
    write_images({split: root / split for split in SPLITS})
    for split, names in SPLITS.items():
        for name in names:
            shapes = [labelme_shape(*box) for box in BOXES[name]]
            content = dict(version="5.0", flags={}, shapes=shapes, imagePath=f"{name}.jpg")
            content |= dict(imageData=None, imageWidth=SIZES[name][0], imageHeight=SIZES[name][1])
            (root / split / f"{name}.json").write_text(json.dumps(content))


def labelme_shape(c: int, x: int, y: int, w: int, h: int) -> dict:
    points = [[x + w, y + h], [x, y]]
    kind = "rectangle"
    if c == 2:
        kind, points = "polygon", [[x, y], [x + w, y + h / 2], [x + w / 2, y + h], [x, y + 1]]
    if w == h:
        kind, points = "circle", [[x + w / 2, y + h / 2], [x + w, y + h / 2]]
    return dict(label=CLASSES[c], points=points, group_id=None, shape_type=kind, flags={})


CSV_HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


def csv_rows(split: str) -> str:
    """As TensorFlow's tutorials have it; a row without a box for an image without objects."""
    rows = [
        f"{name}.jpg,{SIZES[name][0]},{SIZES[name][1]},{CLASSES[c]},{x},{y},{x + w},{y + h}\n"
        for name in SPLITS[split]
        for c, x, y, w, h in BOXES[name]
    ]
    empty = [f"{name}.jpg,,,,,,,\n" for name in SPLITS[split] if not BOXES[name]]
    return "".join(rows + empty)


def write_csv(root: Path) -> None:
    write_images({split: root / "images" / split for split in SPLITS})
    for split in SPLITS:
        (root / f"{split}_labels.csv").write_text(CSV_HEADER + csv_rows(split))


WRITERS = {
    "COCO": write_coco,
    "YOLO": write_yolo,
    "PASCAL VOC": write_voc,
    "Open Images": write_open_images,
    "Objects365": write_objects365,
    "LabelMe": write_labelme,
    "CSV": write_csv,
}
