"""LW-DETR's criterion against RF-DETR's released one (roboflow/rf-detr at 35ac6ab), in float64.

``lw_detr_criterion.json``: unweighted losses, divided by the number of groups, and of the gradients
of their sum the norm and the product with ``recipe.signed("g", name, shape)``. LW-DETR's code has
the same values where it does not overflow.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from detrex.modeling.criterion import Predictions, SetCriterion
from detrex.modeling.matcher import HungarianMatcher
from detrex.modeling.queries import QueryGroup

from . import kits, recipe

CASES = json.loads((Path(__file__).parent / "lw_detr_criterion.json").read_text())
LOSSES = {"rf_ia_bce": "ia_bce_loss", "rf_position": "position_supervised_linear_loss"}


def outputs(spec: dict, tag: str) -> tuple[Tensor, Tensor]:
    """Logits and boxes (B, groups * N, ...); those of even queries lie near an object."""
    seed, count, objects = spec["seed"], spec["N"] * spec["groups"], spec["T"]
    boxes = np.stack([kits.boxes_of(seed, f"{tag}.box{i}", count) for i in range(spec["B"])])
    even = np.arange(0, count, 2)
    for i, number in enumerate(objects):
        if number:
            near = kits.boxes_of(seed, f"gt{i}", number)[even // 2 % number]
            shift = recipe.signed(seed, f"{tag}.jit{i}", (len(even), 4))
            boxes[i, even] = kits.jitter(near, shift, 0.35)
    logits = -1 + 3 * recipe.signed(seed, f"{tag}.logits", (spec["B"], count, spec["K"]))
    return tuple(torch.tensor(x.astype(np.float32)).requires_grad_() for x in (logits, boxes))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_gradients_equal_the_released_ones(case: str, loss: str) -> None:
    spec, expected = CASES[case]["spec"], CASES[case][loss]
    seed, blocks = spec["seed"], spec["groups"]
    aux = [f"aux{i}" for i in range(spec["layers"] - 1)]
    leaves = {tag: outputs(spec, tag) for tag in (*aux, "last", "enc")}
    group = QueryGroup(size=spec["N"] * blocks, blocks=blocks, copies=blocks)
    proposals = QueryGroup("_enc", size=group.size, blocks=blocks, copies=blocks)
    layers = [torch.stack(x) for x in zip(*(leaves[tag] for tag in (*aux, "last")), strict=True)]
    sets = [
        Predictions(*layers, group),
        Predictions(*(x[None] for x in leaves["enc"]), proposals, "encoder"),
    ]
    targets = [
        {
            "boxes": torch.tensor(kits.boxes_of(seed, f"gt{i}", n).astype(np.float32)),
            "labels": torch.tensor(recipe.labels(seed, i, n, spec["K"])).long(),
        }
        for i, n in enumerate(spec["T"])
    ]
    criterion = SetCriterion(
        spec["K"], HungarianMatcher(2, 5, 2), {}, loss_class_type=LOSSES[loss], set_losses={}
    )
    criterion.overlap_eps = 0.0  # as released
    losses = criterion.losses_of_sets(sets, targets)
    names = {name.replace("class", "ce"): value for name, value in losses.items()}
    assert names.keys() == {n for n in expected["losses"] if "card" not in n and "error" not in n}
    for name, value in names.items():
        assert value.item() == pytest.approx(expected["losses"][name], rel=2e-5, abs=1e-6), name
    sum(losses.values()).backward()
    for tag, tensors in leaves.items():
        for kind, tensor in zip(("logits", "boxes"), tensors, strict=True):
            name = f"{tag}.{kind}"
            norm, product = expected["grads"][name] or (0.0, 0.0)
            direction = torch.tensor(recipe.signed("g", name, tuple(tensor.shape))).float()
            assert tensor.grad.norm().item() == pytest.approx(norm, rel=1e-4, abs=1e-6), name
            along = (tensor.grad * direction).sum().item()
            assert along == pytest.approx(product, abs=1e-4 * max(norm, 1e-2)), name
