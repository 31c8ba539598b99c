"""Distinct queries against mmdetection 3.3.0's DDQ: selection, and masks between decoder layers.

``distinct_queries.json``: the selected proposals of each image, norm and dot product of all
contents; of each layer the queries that NMS leaves, as positions among those counted before, those
counted afterwards, and how many cells of the mask are blocked and open in each row.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from detrex.modeling.distinct import count_distinct, distinct, distinct_first
from detrex.modeling.transformer import Proposals
from projects.ddq_detr.modeling import DDQDETR

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
    logits, boxes = crowd(spec)
    best = distinct_first(logits.amax(-1), boxes, 0.8, spec["topk"]).topk(spec["topk"], dim=1)
    for row, scores, expected in zip(best.indices, best.values, selected, strict=True):
        assert row[: len(expected)].tolist() == expected
        assert (scores > -100).tolist() == [i < len(expected) for i in range(spec["topk"])]


@torch.no_grad()
@pytest.mark.parametrize("kit", KITS)
def test_contents_are_those_of_the_released_code(kit: str) -> None:
    """Made of the memory, not of the tokens that the proposals are predicted from."""
    spec, selected = KITS[kit]["spec"], KITS[kit]["selected"]
    logits, boxes = crowd(spec)
    memory = torch.as_tensor(recipe.signed(spec["seed"], "memory", (*logits.shape[:2], 8))).float()
    best = distinct_first(logits.amax(-1), boxes, 0.8, spec["topk"])
    top = Proposals(torch.zeros_like(memory), memory, logits, boxes).top(spec["topk"], best)
    model = torch.nn.Module()
    model.query_map = torch.nn.Linear(8, 8)
    recipe.fill(model, spec["seed"], [])
    content = DDQDETR.proposed_content(model, top).double()
    for row, chosen in zip(content, selected, strict=True):
        row[len(chosen) :] = 0  # as released: nothing takes the place of proposals that lack
    dot = (content * recipe.signed("g", "query", content.shape)).sum()
    assert [content.norm(), dot] == pytest.approx(KITS[kit]["content"], rel=1e-6, abs=1e-5)


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
