"""Distinct queries against mmdetection 3.3.0's DDQ: selection, and masks between decoder layers.

``distinct_queries.json``: the selected proposals of each image; of each layer the queries that NMS
leaves, as positions among those counted before, those counted afterwards, and how many cells of the
mask are blocked and open in each row.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from detrex.modeling.distinct import count_distinct, distinct, distinct_first

from . import kits, recipe

KITS = json.loads((Path(__file__).parent / "distinct_queries.json").read_text())


def crowd(spec: dict, layer: int | None = None) -> tuple[Tensor, Tensor]:
    """Logits (B, N, K) and boxes (B, N, 4) around a few centres: proposals, or a layer's matching
    queries."""
    seed, dn, topk = spec["seed"], spec.get("dn", 0), spec["topk"]
    count, spread, part = spec["L"], spec["spread"], slice(None)
    if layer is not None:
        seed, count = f"{seed}.layer{layer}", dn + topk + spec.get("dense", 0)
        spread, part = spread * (1 + layer), slice(dn, dn + topk)
    logits = -1 + 3 * recipe.signed(seed, "cls", (spec["B"], count, spec["K"]))
    boxes = []
    for b in range(spec["B"]):
        centres = kits.boxes_of(seed, f"centre{b}", spec["crowd"])
        near = centres[np.arange(count) % spec["crowd"]]
        boxes.append(kits.jitter(near, recipe.signed(seed, f"near{b}", (count, 4)), spread))
    boxes = np.stack(boxes)
    if layer == 0 and spec.get("drop_first"):
        logits[:, dn], logits[:, dn + 1], boxes[:, dn] = -9, 5, boxes[:, dn + 1]
    return tuple(torch.as_tensor(x[:, part]).float() for x in (logits, boxes))


@pytest.mark.parametrize("kit", KITS)
def test_proposals_are_those_of_the_released_code(kit: str) -> None:
    spec, selected = KITS[kit]["spec"], KITS[kit]["selected"]
    best = distinct_first(*crowd(spec), 0.8).topk(spec["topk"], dim=1)
    for row, scores, expected in zip(best.indices, best.values, selected, strict=True):
        assert row[: len(expected)].tolist() == expected
        assert (scores > 1).tolist() == [i < len(expected) for i in range(spec["topk"])]


@pytest.mark.parametrize("kit", KITS)
def test_masks_between_layers_are_those_of_the_released_code(kit: str) -> None:
    spec = KITS[kit]["spec"]
    counted = torch.ones(spec["B"], spec["topk"], dtype=torch.bool)
    for number, layer in enumerate(KITS[kit]["layers"]):
        logits, boxes = crowd(spec, number)
        left = distinct(logits.amax(-1).sigmoid(), boxes, 0.8, counted)
        for b, positions in enumerate(layer["nms_kept_positions"]):
            before = counted[b].nonzero().flatten()
            assert left[b].nonzero().flatten().tolist() == sorted(before[positions].tolist())
        described = count_distinct(logits, boxes, counted, 0.8)
        assert torch.equal(described.queries, left)
        counted, mask = count_distinct(logits, boxes, counted, 0.8, as_released=True)
        assert mask.flatten(1).sum(1).tolist() == layer["blocked_cells"]
        assert (~mask).sum(2).tolist() == layer["row_sums_allowed"]
        for b, queries in enumerate(layer["counted_as_distinct"]):
            assert counted[b].nonzero().flatten().tolist() == queries
