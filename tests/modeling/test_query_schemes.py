"""Hybrid and group-wise queries by config, on methods that were published with one group."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from detrex.modeling.queries import QueryGroup
from tests.models import image, tiny

METHODS = {
    "deformable": "projects/deformable_detr/configs/deformable_detr_r50_two_stage_50ep.py",
    "dino": "projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py",
    "dab_deformable": "projects/dab_deformable_detr/configs/dab_deformable_detr_r50_50ep.py",
    "conditional": "projects/conditional_detr/configs/conditional_detr_r50_50ep.py",
    "dab": "projects/dab_detr/configs/dab_detr_r50_50ep.py",
}
SCHEMES = {
    "hybrid": [
        L(QueryGroup)(size=10),
        L(QueryGroup)(name="_one2many", size=12, copies=2, weight=0.5),
    ],
    "group": [L(QueryGroup)(size=20, blocks=2, copies=2)],
}
BATCH = [image(64, 96, 3, seed=1), image(80, 48, 2, seed=2)]


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())
@pytest.mark.parametrize("config", METHODS.values(), ids=METHODS.keys())
def test_scheme_trains_and_drops_to_its_first_block(config: str, scheme: list[DictConfig]) -> None:
    total = sum(group.size for group in scheme)
    overrides = dict(groups=scheme)
    if "two_stage" in config or "dino" in config:
        overrides["transformer__two_stage_num_proposals"] = total
    model = tiny(config, **overrides).train()
    losses = model(BATCH)
    assert any(name.endswith("_one2many") for name in losses) == (len(scheme) == 2)
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    model.eval()
    with torch.no_grad():
        memory = model.encode(model.preprocess(BATCH))
        queries = model.make_queries(memory, None)
    assert queries.content.shape[1] == 10
    assert [(group.name, group.size) for group in queries.groups] == [("", 10)]
