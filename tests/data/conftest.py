"""A tiny COCO-format data set on disk: six images, sparse category ids 3, 7, 90."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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
def coco(tmp_path) -> TinyCoco:
    return TinyCoco(tmp_path)
