"""Detect objects with a model that tools/export.py wrote as ONNX.

    python tools/run_onnx.py birds.onnx street.jpg

A file to copy: it needs only numpy, Pillow and onnxruntime. Images are read and resized as in an
evaluation, for which the model's metadata says how. Prints what `tools/predict.py --json` lists:
class, label, category_id, score and box (x0, y0, x1, y1 in pixels of the image).
"""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

FORMATS = ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"]


class Model:
    """Call it with a file; ``about`` is the model's metadata."""

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path)
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.about = {key: json.loads(value) for key, value in metadata.items()}

    def __call__(self, path: str, threshold: float = 0.3) -> list[dict]:
        with Image.open(path, formats=FORMATS) as opened:
            image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I;16"):  # by its upper 8 bits; Pillow would cut at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image.convert("RGB")
        small = image.resize(self.input_size(*image.size), Image.Resampling.BILINEAR)
        pixels = np.asarray(small)
        if self.about["image_format"] == "BGR":
            pixels = pixels[:, :, ::-1]
        sizes = np.array([pixels.shape[:2]], np.int64)  # height, width without padding
        outputs = self.session.run(None, {"pixels": self.padded(pixels), "sizes": sizes})
        scores, labels, boxes = (values[0] for values in outputs)
        boxes = boxes * np.tile(np.divide(image.size, small.size), 2)
        best = np.argsort(-scores, kind="stable")
        return [
            self.entry(int(labels[i]), float(scores[i]), boxes[i].tolist())
            for i in best
            if scores[i] >= threshold and (boxes[i, 2:] > boxes[i, :2]).all()
        ]

    def input_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height to which the network wants an image resized."""
        if "size" in self.about:
            height, width = self.about["size"]
            return width, height
        scale = self.about["short_edge"] / min(width, height)
        sides = width * scale, height * scale
        scale = min(1, (self.about["longest_side"] or max(sides)) / max(sides))
        return tuple(int(side * scale + 0.5) for side in sides)

    def padded(self, pixels: np.ndarray) -> np.ndarray:
        """(1, 3, H, W), with zeros below and to the right where the model's size is fixed."""
        full = self.session.get_inputs()[0].shape[2:]
        height, width = (
            fixed if isinstance(fixed, int) else side
            for fixed, side in zip(full, pixels.shape, strict=False)
        )
        if height < pixels.shape[0] or width < pixels.shape[1]:
            raise SystemExit(
                f"error: the image is resized to {pixels.shape[0]} x {pixels.shape[1]} pixels, "
                f"this model is for up to {height} x {width}: export it without --height --width"
            )
        batch = np.zeros((1, 3, height, width), np.uint8)
        batch[0, :, : pixels.shape[0], : pixels.shape[1]] = pixels.transpose(2, 0, 1)
        return batch

    def entry(self, label: int, score: float, box: list[float]) -> dict:
        classes, ids = self.about["classes"], self.about["category_ids"]
        name = classes[label] if classes else str(label)
        category = ids[label] if ids else None
        return {
            "class": name, "label": label, "category_id": category, "score": score, "box": box
        }  # fmt: skip


if __name__ == "__main__":
    model_file, *image_files = sys.argv[1:]
    model = Model(model_file)
    print(json.dumps([{"file": file, "detections": model(file)} for file in image_files], indent=1))
