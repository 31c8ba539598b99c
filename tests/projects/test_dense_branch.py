"""DDQ's dense branch on DDQ and on other detectors; its losses are compared with the released code
in tests/parity/test_ddq_dense.py."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from detrex.modeling.criterion import TwoStageCriterion
from projects.ddq_detr.modeling.dense_branch import DDQLosses, DenseBranch
from projects.deformable_detr.modeling import DeformableDETR
from projects.dino.modeling import DINO
from projects.relation_detr.modeling import RelationDETR
from tests.models import image, tiny

CONFIGS = "projects/ddq_detr/configs"
DDQ = f"{CONFIGS}/ddq_detr_r50_4scale_12ep.py"
RANK = f"{CONFIGS}/ddq_rank_detr_r50_two_stage_12ep.py"
HIGH_ORDER = f"{CONFIGS}/ddq_detr_r50_4scale_12ep_high_order.py"
BATCH = [image(64, 96, 3, seed=1), image(80, 48, 0, seed=2)]


class DenseDINO(DenseBranch, DINO):
    pass


class DenseDeformableDETR(DenseBranch, DeformableDETR):
    pass


class DenseRelationDETR(DenseBranch, RelationDETR):
    pass


class DenseCriterion(DDQLosses, TwoStageCriterion):
    pass


OTHERS = {
    DenseDINO: "dino/configs/dino-resnet/dino_r50_4scale_12ep.py",
    DenseDeformableDETR: "deformable_detr/configs/deformable_detr_r50_two_stage_50ep.py",
    DenseRelationDETR: "relation_detr/configs/relation_detr_r50_12ep.py",
}


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, iteration: int) -> dict:
    """Losses of a step."""
    model.criterion.matcher.iter = iteration
    torch.manual_seed(iteration)
    losses = model(BATCH)
    assert all(loss.isfinite() for loss in losses.values())
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}


def optimizer_of(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)


@pytest.mark.parametrize("config", [HIGH_ORDER, RANK], ids=lambda c: Path(c).stem)
def test_three_steps_train_every_parameter_and_can_be_resumed(config: str) -> None:
    """The third one has the high-order cost, and is taken a second time from what was saved."""
    switch = {"criterion__matcher__matcher_change_iter": 2, "criterion__matcher__max_iter": 3}
    model = tiny(config, k_dense=4, **switch).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    optimizer = optimizer_of(model)
    for iteration in range(2):
        train(model, optimizer, iteration)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    losses = train(model, optimizer, 2)
    assert model.criterion.matcher.is_high_order
    same = [name for name, p in model.named_parameters() if torch.equal(p, before.get(name, p))]
    assert not set(same) & set(before)
    again = tiny(config, k_dense=4, **switch).train()
    again.load_state_dict(saved[0])
    optimizer = optimizer_of(again)
    optimizer.load_state_dict(saved[1])
    assert train(again, optimizer, 2) == losses


@pytest.mark.parametrize("target", OTHERS, ids=lambda t: t.__name__)
def test_the_branch_trains_other_detectors(target: type) -> None:
    options = {"_target_": target, "criterion___target_": DenseCriterion}
    if target is DenseRelationDETR:
        options["criterion__loss_class_type"] = "varifocal_detached_loss"
    model = tiny(f"projects/{OTHERS[target]}", **options).train()
    for counts in ((3, 1), (0, 0)):
        model.zero_grad()
        losses = model([image(64, 96, n, seed=n) for n in counts])
        sum(losses.values()).backward()
        for name, p in model.named_parameters():
            assert not p.requires_grad or p.grad.isfinite().all(), name
    suffixes = ("dense_0", "dense", "dense_enc")
    names = {f"loss_{kind}_{suffix}" for kind in ("class", "giou") for suffix in suffixes}
    assert {name for name in losses if "dense" in name} == names


@pytest.mark.parametrize("config", [DDQ, RANK], ids=["ddq", "rank"])
def test_the_branch_moves_no_other_loss_and_no_detection(config: str) -> None:
    model = tiny(config, k_dense=4)
    plain = tiny(config, k_dense=0)
    plain.load_state_dict(model.state_dict(), strict=False)
    losses = []
    for one in (model, plain):
        torch.manual_seed(0)
        losses.append({k: v for k, v in one.train()(BATCH).items() if "dense" not in k})
    assert losses[0].keys() == losses[1].keys()
    assert all(losses[0][k].equal(losses[1][k]) for k in losses[0])
    with torch.no_grad():
        detections = [one.eval()(BATCH)[0]["instances"] for one in (model, plain)]
    assert detections[0].scores.equal(detections[1].scores)
    branch = {n for n, _ in model.named_parameters()} - {n for n, _ in plain.named_parameters()}
    parts = {name.split(".")[0] for name in branch}
    assert parts - {"query_map"} == {"dense_class_embed", "dense_bbox_embed"}
