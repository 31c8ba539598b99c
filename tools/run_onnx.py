"""Detect objects with a model that tools/export.py wrote as ONNX.

    python tools/run_onnx.py birds.onnx street.jpg

A file to copy: it needs only numpy, Pillow and onnxruntime. Images are read and resized as in an
evaluation, and detections chosen as `tools/predict.py` does with the options of the export: the
model's metadata says how. Prints what `tools/predict.py --json` lists:
class, label, category_id, score and box (x0, y0, x1, y1 in pixels of the image).
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from PIL import Image, ImageOps

FORMATS = ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"]


class Model:
    """Call it with a file; ``about`` is the model's metadata."""

    def __init__(self, path: str) -> None:
        import onnxruntime  # not before --help: it may be missing

        self.session = onnxruntime.InferenceSession(path)
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.about = {key: json.loads(value) for key, value in metadata.items()}

    def __call__(self, path: str) -> list[dict]:
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
        scores, labels, boxes = self.chosen(*(values[0] for values in outputs))
        boxes = boxes * np.tile(np.divide(image.size, small.size), 2)
        return list(map(self.entry, labels.tolist(), scores.tolist(), boxes.tolist()))

    def chosen(self, scores: np.ndarray, labels: np.ndarray, boxes: np.ndarray) -> tuple:
        """The detections that are shown, best first, with calibrated scores if that was asked."""
        threshold, calibration = self.about["threshold"], self.about["calibration"]
        detections = best_first(scores, labels, boxes)
        detections = only(detections, (detections[2][:, 2:] > detections[2][:, :2]).all(1))
        if self.about["nms_iou"] is not None:
            detections = only(detections, distinct(*detections[1:], self.about["nms_iou"]))
        if threshold == "auto":
            least = np.array(calibration["thresholds"]["LRP"])[detections[1]]
            detections = only(detections, detections[0] >= least)
        if self.about["calibrated"]:
            detections = best_first(calibrated(calibration, *detections[:2]), *detections[1:])
        return detections if threshold == "auto" else only(detections, detections[0] >= threshold)

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


def only(detections: tuple, mask: np.ndarray) -> tuple:
    return tuple(column[mask] for column in detections)


def best_first(scores: np.ndarray, labels: np.ndarray, boxes: np.ndarray) -> tuple:
    order = np.argsort(-scores, kind="stable")
    return scores[order], labels[order], boxes[order]


def distinct(labels: np.ndarray, boxes: np.ndarray, iou: float) -> np.ndarray:
    """Which detections, best first, overlap no better one of their class that stays by more."""
    sides = boxes[:, 2:] - boxes[:, :2]
    area, stay = sides.prod(1), np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        corner = np.maximum(boxes[i, :2], boxes[:i, :2])
        common = (np.minimum(boxes[i, 2:], boxes[:i, 2:]) - corner).clip(0).prod(1)
        covered = common / (area[i] + area[:i] - common) > iou
        stay[i] = not (covered & stay[:i] & (labels[:i] == labels[i])).any()
    return stay


def calibrated(calibration: dict, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Scores through the map of their class."""
    z = scores.astype(np.float64)
    maps = [np.array(calibration["maps"][label]) for label in labels]
    if calibration["kind"] == "isotonic":
        values = [np.interp(x, *m.reshape(2, -1)) for x, m in zip(z, maps, strict=True)]
        return np.array(values, scores.dtype)
    z = z.clip(1e-6, 1 - 1e-6)
    if calibration["kind"] == "temperature":
        maps = [np.array([1 / temperature, 0]) for (temperature,) in maps]
    slope, shift = np.reshape(maps, (-1, 2)).T
    z = slope * (np.log(z) - np.log1p(-z)) + shift
    return (1 / (1 + np.exp(-z))).astype(scores.dtype)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="the ONNX file")
    parser.add_argument("images", nargs="+", help="image files")
    args = parser.parse_args()
    model = Model(args.model)
    print(json.dumps([{"file": f, "detections": model(f)} for f in args.images], indent=1))
