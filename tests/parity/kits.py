"""Small batches of logits, boxes and pairs for losses and costs, rebuilt from a seed.

A spec has seed, B images, N queries, K classes, T (targets of each image), and optionally
per_target (queries of each target), centre and spread of the logits, jitter of the matched boxes,
grid (ties), equal (all logits), exact / far (pairs of IoU 1 / 0), set (logits of pairs' classes).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tests.parity.recipe import labels, signed


class Kit(NamedTuple):
    """logits (B, N, K), boxes (B, N, 4), and per image labels (T,) and boxes (T, 4)."""

    logits: Tensor
    boxes: Tensor
    targets: list[dict[str, Tensor]]


def build(spec: dict) -> Kit:
    """The inputs of a spec, as float32 numbers in float64."""
    seed, images, queries, classes = (spec[key] for key in ("seed", "B", "N", "K"))
    spread = spec.get("spread", 3.0) * signed(seed, "logits", (images, queries, classes))
    logits = spec.get("centre", -1.0) + spread
    if "grid" in spec:
        logits = np.rint(logits / spec["grid"]) * spec["grid"]
    logits = logits if "equal" not in spec else np.full_like(logits, spec["equal"])
    boxes = np.stack([boxes_of(seed, f"pred{b}", queries) for b in range(images)])
    targets = []
    for b, count in enumerate(spec["T"]):
        gt, classes_of = boxes_of(seed, f"gt{b}", count), labels(seed, b, count, classes)
        matched = spec.get("per_target", 1) * count
        order = np.argsort(signed(seed, f"order{b}", (queries,)), kind="stable")[:matched]
        target = np.arange(matched) % max(count, 1)
        shift = signed(seed, f"jit{b}", (matched, 4))[: len(order)]
        boxes[b, order] = jitter(gt[target[: len(order)]], shift, spec.get("jitter", 0.25))
        for i in (i for i in spec.get("exact", ()) if i < len(order)):
            boxes[b, order[i]] = gt[target[i]]
        for i in (i for i in spec.get("far", ()) if i < len(order)):
            boxes[b, order[i]] = [1.5, 1.5, 0.1, 0.1]
        for i, value in (pair for pair in spec.get("set", ()) if pair[0] < len(order)):
            logits[b, order[i], classes_of[target[i]]] = value
        targets.append({"labels": torch.as_tensor(classes_of), "boxes": _float32(gt)})
    return Kit(_float32(logits), _float32(boxes), targets)


def boxes_of(seed: int, name: str, count: int, low: float = 0.1, high: float = 0.5) -> np.ndarray:
    unit = (signed(seed, name, (count, 4)) + 1) / 2
    size = low + (high - low) * unit[:, 2:]
    return np.concatenate([size / 2 + (1 - size) * unit[:, :2], size], 1)


def jitter(boxes: np.ndarray, shift: np.ndarray, amount: float) -> np.ndarray:
    centre = boxes[:, :2] + amount * shift[:, :2] * boxes[:, 2:]
    return np.concatenate([centre, boxes[:, 2:] * (1 + amount * shift[:, 2:])], 1)


def _float32(x: np.ndarray) -> Tensor:
    return torch.as_tensor(x.astype(np.float32)).double()
