"""Data sets as other tools and public repositories have them: none loses an image or a box."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from detrex.data.formats import read_layout
from tests.data import layouts
from tests.data.layouts import BOXES, CLASSES, SIZES, SPLITS

TRAIN_VAL = {"train": "train", "val": "val"}


def yolo_lines(name: str) -> str:
    w, h = SIZES[name]
    return "".join(
        f"{c} {(x + bw / 2) / w} {(y + bh / 2) / h} {bw / w} {bh / h}\n"
        for c, x, y, bw, bh in BOXES[name]
    )


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def yolo(
    root: Path, images: str, labels: str, folders: dict = TRAIN_VAL, ending: str = "jpg"
) -> None:
    """Images and label files in ``images`` and ``labels``, with {split} for the split's folder."""
    for split, names in SPLITS.items():
        for name in names:
            path = root / images.format(split=folders[split]) / f"{name}.{ending}"
            layouts.write_image(path, SIZES[name], ord(name))
            write(root / labels.format(split=folders[split]) / f"{name}.txt", yolo_lines(name))


def roboflow_yolo(root: Path) -> None:
    yolo(root, "{split}/images", "{split}/labels", {"train": "train", "val": "valid"})
    write(
        root / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\n"
        "nc: 3\nnames: ['ant', 'bee', 'crow']\n",
    )
    write(root / "README.dataset.txt", "# birds > 2024\nProvided by a user\n")


def yaml_of_another_machine(root: Path) -> None:
    yolo(root, "{split}/images", "{split}/labels", {"train": "train", "val": "valid"})
    write(
        root / "data.yaml",
        "path: C:\\data\\birds\ntrain: C:\\data\\birds\\train\\images\r\n"
        "val: /content/val/images\nnames:\n  0: ant\n  '1': bee\n  2: crow\n",
        "utf-8-sig",
    )


def classes_without_a_yaml(root: Path) -> None:
    yolo(root, "images/{split}", "labels/{split}")
    write(root / "classes.txt", "ant\r\nbee\r\ncrow\r\n", "utf-16")


def label_img(root: Path) -> None:
    """Labels beside images, classes.txt in each folder."""
    yolo(root, "{split}", "{split}", {"train": "Train", "val": "Validation"})
    for folder in ("Train", "Validation"):
        write(root / folder / "classes.txt", "ant\nbee\ncrow\n")


def label_studio(root: Path) -> None:
    yolo(root, "images", "labels")
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES)]
    write(root / "notes.json", json.dumps({"categories": categories, "info": {}}))
    write(root / "val.txt", "images\\d.jpg\n")
    write(root / "train.txt", "images\\a.jpg\nimages\\b.jpg\nimages\\c.jpg\n")


def cvat_yolo(root: Path) -> None:
    yolo(root, "obj_{split}_data", "obj_{split}_data", {"train": "train", "val": "valid"})
    write(root / "obj.names", "ant\nbee\ncrow\n")
    write(
        root / "obj.data",
        "classes = 3\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n"
        "backup = backup/\n",
    )
    for split, file in (("train", "train"), ("val", "valid")):
        lines = [f"data/obj_{file}_data/{name}.jpg\n" for name in SPLITS[split]]
        write(root / f"{file}.txt", "".join(lines))


def voc(root: Path, images: str, xmls: str, folders: dict = TRAIN_VAL, **change: str) -> None:
    for split, names in SPLITS.items():
        for name in names:
            ending = change.get("ending", "jpg")
            path = root / images.format(split=folders[split]) / f"{name}.{ending}"
            layouts.write_image(path.with_suffix(".png"), SIZES[name], ord(name))
            path.with_suffix(".png").rename(path)
            text = layouts.voc_xml(name).replace(
                f"{name}.jpg", change.get("stated", "{}").format(name)
            )
            write(root / xmls.format(split=folders[split]) / f"{name}.xml", text)


def kaggle_voc(root: Path) -> None:
    voc(root, "{split}/images", "{split}/annotations", ending="png", stated="{}.png")


def voc_names_without_ending(root: Path) -> None:
    voc(root, "images/{split}", "Annotations/{split}", ending="PNG", stated="C:\\shots\\{}")


def voc_lists_beside(root: Path) -> None:
    """Kaggle and Paddle: train.txt with images and XML files."""
    voc(root, "images", "annotations", stated="{}")
    for split, names in SPLITS.items():
        lines = [f"./images/{name}.jpg ./annotations/{name}.xml\n" for name in names]
        write(root / f"{split}.txt", "".join(lines))


def voc_test_without_xml(root: Path) -> None:
    """VOC's own test lists name images whose objects are not published."""
    voc(root, "JPEGImages", "Annotations", stated="{}.jpg")
    layouts.write_image(root / "JPEGImages/e.jpg", (9, 9))
    for name, names in {"train": "abc", "val": "d", "trainval": "abcd", "test": "ef"}.items():
        write(root / f"ImageSets/Main/{name}.txt", "\n".join(names))


def coco_folders(
    root: Path, json_name: str, images: str, second: str, path: str = "{}.jpg"
) -> None:
    for split, folder in (("train", "train"), ("val", second)):
        for name in SPLITS[split]:
            layouts.write_image(root / folder / images / f"{name}.jpg", SIZES[name], ord(name))
        content = layouts.coco_content(SPLITS[split], path)
        write(root / folder / json_name, json.dumps(content))


def roboflow_coco(root: Path) -> None:
    coco_folders(root, "_annotations.coco.json", ".", "valid")


def fiftyone_coco(root: Path) -> None:
    coco_folders(root, "labels.json", "data", "Validation")


def coco_of_windows(root: Path) -> None:
    coco_folders(root, "annotations.json", "images", "dev", "D:\\data\\images\\{}.JPG")


def coco_names_above(root: Path) -> None:
    """Names relative to the JSON, whole paths."""
    layouts.write_images({split: root / "images" for split in SPLITS})
    for split, path in (("train", "../images/{}.jpg"), ("val", f"{root}/images/{{}}.jpg")):
        content = layouts.coco_content(SPLITS[split], path)
        write(root / f"annotations/{split}.json", json.dumps(content))


def keras_retinanet(root: Path) -> None:
    layouts.write_images({split: root / "images" / split for split in SPLITS})
    for split, names in SPLITS.items():
        rows = [
            f"/home/me/images/{name}.jpg,{x},{y},{x + w},{y + h},{CLASSES[c]}\n"
            for name in names
            for c, x, y, w, h in BOXES[name]
        ]
        rows += [f"images/{split}/{name}.jpg,,,,,\n" for name in names if not BOXES[name]]
        write(root / f"annotations_{split}.csv", "".join(rows))


def one_csv_per_split_with_semicolons(root: Path) -> None:
    layouts.write_images({split: root / split for split in SPLITS})
    for split, names in SPLITS.items():
        rows = "".join(
            f"{name};{CLASSES[c]};{x};{y};{w};{h}\r\n"
            for name in names
            for c, x, y, w, h in BOXES[name] or [(0, "", "", "", "")]
        )
        write(root / split / "boxes.csv", f"Image_ID;Label;x;y;Width;Height\r\n{rows}", "utf-8-sig")


def one_csv_for_folders_of_splits(root: Path) -> None:
    layouts.write_images({split: root / "images" / split for split in SPLITS})
    write(root / "all.csv", layouts.CSV_HEADER + "".join(map(layouts.csv_rows, SPLITS)))


def csv_per_split_for_one_folder(root: Path) -> None:
    """All images are in a folder called train."""
    layouts.write_images({split: root / "train" for split in SPLITS})
    for split in SPLITS:
        write(root / f"{split}.csv", layouts.CSV_HEADER + layouts.csv_rows(split))


def xml_files_together(root: Path) -> None:
    voc(root, "images/{split}", "xml", stated="{}.jpg")


VARIANTS: dict[Callable, str] = {
    roboflow_yolo: "YOLO",
    yaml_of_another_machine: "YOLO",
    classes_without_a_yaml: "YOLO",
    label_img: "YOLO",
    label_studio: "YOLO",
    cvat_yolo: "YOLO",
    kaggle_voc: "PASCAL VOC",
    voc_names_without_ending: "PASCAL VOC",
    voc_lists_beside: "PASCAL VOC",
    voc_test_without_xml: "PASCAL VOC",
    roboflow_coco: "COCO",
    fiftyone_coco: "COCO",
    coco_of_windows: "COCO",
    coco_names_above: "COCO",
    xml_files_together: "PASCAL VOC",
    keras_retinanet: "CSV",
    one_csv_for_folders_of_splits: "CSV",
    csv_per_split_for_one_folder: "CSV",
    one_csv_per_split_with_semicolons: "CSV",
}


@pytest.mark.parametrize("depth", [".", "unpacked/birds v1"])
@pytest.mark.parametrize("write_set", VARIANTS, ids=lambda f: f.__name__)
def test_sets_of_other_tools(tmp_path, write_set, depth):
    data = tmp_path / "data"
    write_set(data / depth)
    name, splits = read_layout(data)
    assert name == VARIANTS[write_set]
    check_content(splits)
    left = [kind for kind in splits["train"].problems if "not read" in kind or "no split" in kind]
    assert left == []


def check_content(splits: dict) -> None:
    """Images, boxes and classes are those of ``layouts``."""
    assert list(splits) == ["train", "val"]
    for split, names in SPLITS.items():
        content = splits[split].content()
        assert [c["name"] for c in content["categories"]] == CLASSES
        files = {image["id"]: image["file_name"] for image in content["images"]}
        assert sorted(Path(file).stem for file in files.values()) == names
        assert all((splits[split].images / file).is_file() for file in files.values())
        boxes = {name: [] for name in names}
        for a in content["annotations"]:
            found = (a["category_id"] - 1, *a["bbox"])
            boxes[Path(files[a["image_id"]]).stem].append(pytest.approx(found, abs=0.002))
        assert boxes == {name: BOXES[name] for name in names}
