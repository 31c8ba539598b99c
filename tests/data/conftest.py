"""A tiny COCO-format data set on disk: six images, sparse category ids 3, 7, 90."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from detrex.data import (
    coco_columns,
    coco_format,
    coco_growing,
    coco_index,
    coco_stream,
    joined,
)


class TinyCoco:
    """Folder with ``images/`` and a content dict to spoil before ``save``."""

    def __init__(self, root: Path):
        self.root, self.images, self.json = root, root / "images", root / "data.json"
        sizes = [(40, 30), (30, 40), (40, 30), (40, 40), (60, 20), (20, 60)]
        self.content = {
            "images": [
                {"id": 10 * i, "file_name": f"sub{i % 2}/{i}.jpg", "width": w, "height": h}
                for i, (w, h) in enumerate(sizes)
            ],
            "categories": [
                {"id": 90, "name": "crow"},
                {"id": 3, "name": "ant"},
                {"id": 7, "name": "bee"},
            ],
            "annotations": [
                {"id": i + 1, "image_id": 10 * i, "category_id": c, "bbox": [2, 3, 10, 8]}
                for i, c in enumerate([3, 7, 90, 3, 7])
            ],
        }
        rng = np.random.RandomState(0)
        for i, (w, h) in enumerate(sizes):
            path = self.images / f"sub{i % 2}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.randint(0, 255, (h, w, 3), dtype=np.uint8)).save(path)

    def save(self, **changes) -> str:
        self.json.write_text(json.dumps({**self.content, **changes}))
        return str(self.json)

    def add(self, **annotation) -> None:
        default = {"id": 100, "image_id": 0, "category_id": 3, "bbox": [1, 1, 5, 5]}
        self.content["annotations"].append({**default, **annotation})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where indices are made; registered data sets are forgotten again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    saved = dict(DatasetCatalog), dict(MetadataCatalog)
    yield tmp_path / "cache" / "detrex" / "index"
    for catalog, content in zip((DatasetCatalog, MetadataCatalog), saved, strict=True):
        catalog.clear()
        catalog.update(content)


@pytest.fixture
def large(monkeypatch):
    """Data of four boxes are large."""

    def set_limit(limit: int = 4) -> None:
        for module in (coco_columns, coco_stream, coco_index, coco_format, joined):
            monkeypatch.setattr(module, "LARGE", limit)
        monkeypatch.setattr(coco_stream, "LEAST_BYTES", 1)
        monkeypatch.setattr(coco_stream, "PIECE", 200)
        for module in (coco_columns, coco_growing):
            monkeypatch.setattr(module, "BLOCK", 7)

    return set_limit


@pytest.fixture
def many(coco):
    """The tiny data with 200 boxes in any order, some of them unusable, crowds, or with masks."""
    numbers = random.Random(0)
    annotations = coco.content["annotations"] = []
    for i in numbers.sample(range(1000), 200):
        x, y, w, h = (numbers.choice([numbers.uniform(-5, 25), 3, 0.1]) for _ in range(4))
        entry = {"id": i, "image_id": numbers.choice([0, 10, 20, 40, 50]), "bbox": [x, y, w, h]}
        entry |= {"category_id": numbers.choice([3, 7, 7, 90]), "iscrowd": i % 9 == 0}
        if i % 5 == 0:
            entry |= {"area": w * h, "segmentation": [[1, 1, 5, 1, 5, 6.5, 1, 6.5]], "a}, {": "]"}
        annotations.append(entry)
    annotations[5]["image_id"] = "10"  # variants of what is usual
    annotations[7]["bbox"] = [float("nan"), 1, 2, 3]
    annotations[9] |= {"iscrowd": None, "area": None, "attributes": {"of": [{"a": 1}, {"b": "}"}]}}
    annotations[0] |= {"bbox": [], "segmentation": [[1, 1, 5, 1, 5, 6.5, 1, 6.5]]}
    for image in coco.content["images"]:
        image["note"] = 'a "quoted" [bracket \\'
    coco.content = {"info": {"a": [1, {"b": "]}"}]}, "extra": [[1, 2], "x"], **coco.content}
    return coco


@pytest.fixture
def coco(tmp_path) -> TinyCoco:
    return TinyCoco(tmp_path)
