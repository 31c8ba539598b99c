"""Weights, images and objects that any implementation can rebuild from a seed and a name.

key = FNV-1a-64 of "<seed>:<name>"; numbers = splitmix64 from that key, the upper 24 bits as
[-1, 1). Golden files hold what upstream's models compute with exactly these tensors.
"""

from __future__ import annotations

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

# Name fragments of vector tables, whose rows are used as they are.
TABLES = (
    "query_embedding",
    "query_embed",
    "level_embed",
    "rank_aware_content_query",
    "rank_adaptive_classhead_emb",
    "tgt_embed",
    "label_enc",
    "label_encoder",
    "anchor_box_embed",
    "refpoint_embed",
    "pattern",
    "position.weight",
    "enc_alpha",
    ".alpha",
    "row_embed",
    "col_embed",
)


def signed(seed: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float64 numbers in [-1, 1)."""
    key = 0xCBF29CE484222325
    for byte in f"{seed}:{name}".encode():
        key = ((key ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    count = int(np.prod(shape, dtype=np.int64))
    with np.errstate(over="ignore"):
        z = np.uint64(key) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (2.0 * ((z >> np.uint64(40)) / float(1 << 24)) - 1.0).reshape(shape)


def centre_and_width(name: str, shape: tuple[int, ...]) -> tuple[float | np.ndarray, float]:
    """Where the values of a parameter lie, by its name and shape."""
    leaf = name.rsplit(".", 1)[-1]
    rules = (
        (leaf == "running_var", (1.0, 0.3)),
        (leaf == "running_mean", (0.0, 0.1)),
        (shape == (1,) and leaf == "weight", (0.25, 0.1)),  # a PReLU's slope
        (any(table in name for table in TABLES), (0.0, 1.0)),
        (len(shape) >= 2, (0.0, _fan_in_width(name, shape))),
        (leaf == "weight", (1.0, 0.2)),  # a norm layer
        ("sampling_offsets" in name, (0.0, 2.0)),
        ("class_embed" in name, (-1.0, 0.5)),
        (
            "bbox_embed" in name and name.endswith("layers.2.bias") and shape == (4,),
            (np.array([0.0, 0.0, 1.5, 1.5]), 0.3),
        ),
    )
    return next((value for applies, value in rules if applies), (0.0, 0.1))


def _fan_in_width(name: str, shape: tuple[int, ...]) -> float:
    width = (3.0 / max(np.prod(shape[1:]), 1)) ** 0.5
    return width * 0.3 if "sampling_offsets" in name else width


@torch.no_grad()
def fill(model: torch.nn.Module, seed: str, tweaks: list[tuple[str, float]]) -> None:
    """Overwrite every floating-point tensor but the criterion's, aliases by their first name."""
    seen = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        skip = name.startswith("criterion.") or name.endswith("num_batches_tracked")
        if skip or tensor.data_ptr() in seen or not tensor.dtype.is_floating_point:
            continue
        seen.add(tensor.data_ptr())
        shape = tuple(tensor.shape)
        centre, width = centre_and_width(name, shape)
        value = (np.asarray(centre) + width * signed(seed, name, shape)).astype(np.float32)
        for fragment, factor in tweaks:
            if fragment in name:
                value = (value.astype(np.float64) * factor).astype(np.float32)
        tensor.copy_(torch.from_numpy(value))


def batch(golden: dict, key: str, train: bool) -> list[dict]:
    """A batch of the golden file in detectron2's format."""
    spec = golden["batches"][key]
    result = []
    for i, ((h, w), count, (out_h, out_w)) in enumerate(
        zip(spec["sizes"], spec["gt"], spec["out"], strict=True)
    ):
        tag = f"{golden['seed']}.{key}"
        x = {"image": torch.from_numpy(image(tag, i, h, w)), "height": out_h, "width": out_w}
        if train:
            x["instances"] = Instances((h, w))
            corners = boxes(tag, i, count, h, w, *spec.get("side", (0.45, 0.9)))
            x["instances"].gt_boxes = Boxes(torch.from_numpy(corners))
            classes = labels(tag, i, count, golden["num_classes"])
            x["instances"].gt_classes = torch.from_numpy(classes)
        result.append(x)
    return result


def image(tag: str, index: int, height: int, width: int) -> np.ndarray:
    """uint8 (3, H, W): colour ramps and noise."""
    noise = signed(tag, f"image{index}.noise", (3, height, width))
    ramp = signed(tag, f"image{index}.ramp", (3, 3))[:, :, None, None]
    y = np.linspace(-1, 1, height)[:, None]
    x = np.linspace(-1, 1, width)[None]
    value = 127.5 + 60 * ramp[:, 0] + 50 * ramp[:, 1] * y + 50 * ramp[:, 2] * x + 40 * noise
    return np.clip(np.rint(value), 0, 255).astype(np.uint8)


def boxes(
    tag: str, index: int, count: int, height: int, width: int, low: float, high: float
) -> np.ndarray:
    """float32 (count, 4) xyxy pixels on a quarter-pixel grid."""
    s = (signed(tag, f"boxes{index}", (count, 4)) + 1) / 2
    size = (low + (high - low) * s[:, 2:]) * [width, height]
    corner = s[:, :2] * ([width, height] - size)
    return (np.rint(np.concatenate([corner, corner + size], 1) * 4) / 4).astype(np.float32)


def labels(tag: str, index: int, count: int, num_classes: int) -> np.ndarray:
    s = (signed(tag, f"labels{index}", (count,)) + 1) / 2
    classes = np.minimum((s * num_classes).astype(np.int64), num_classes - 1)
    if count >= 4:
        classes[[1, 3]] = classes[0]  # several objects of one class
    return classes
