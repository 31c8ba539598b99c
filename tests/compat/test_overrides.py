"""Upstream's methods are called wherever they are overridden, or refused; on every detector."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from detrex.compat.overrides import CALLED, LAYER_METHODS, followed
from tests.models import image, tiny

DETECTORS = {
    "deformable": "deformable_detr/configs/deformable_detr_r50_50ep.py",
    "deformable two-stage": "deformable_detr/configs/deformable_detr_r50_two_stage_50ep.py",
    "h-deformable": "h_deformable_detr/configs/h_deformable_detr_r50_two_stage_12ep.py",
    "rank": "rank_detr/configs/rank_detr_r50_two_stage_12ep.py",
    "rank with align": "rank_detr/configs/rank_detr_r50_two_stage_12ep_align.py",
    "rank-dino": "rank_detr/configs/rank_dino_r50_4scale_12ep.py",
    "dino": "dino/configs/dino-resnet/dino_r50_4scale_12ep.py",
    "align": "align_detr/configs/aligndetr_k=2_r50_4scale_12ep.py",
    "align-dab": "align_dab_detr/configs/align_dab_detr_r50_50ep.py",
    "dab": "dab_detr/configs/dab_detr_r50_50ep.py",
    "dab-deformable": "dab_deformable_detr/configs/dab_deformable_detr_r50_two_stage_50ep.py",
    "dn": "dn_detr/configs/dn_detr_r50_50ep.py",
    "dn-deformable": "dn_deformable_detr/configs/dn_deformable_detr_r50_50ep.py",
    "detr": "detr/configs/detr_r50_300ep.py",
    "conditional": "conditional_detr/configs/conditional_detr_r50_50ep.py",
    "group": "group_detr/configs/group_detr_r50_50ep.py",
    "anchor": "anchor_detr/configs/anchor_detr_r50_50ep.py",
    "ms": "ms_detr/configs/ms_detr_r50_12ep.py",
    "co": "co_detr/configs/co_deformable_detr_r50_1x_coco.py",
    "rt": "rt_detr/configs/rtdetr_r50vd_6x_coco.py",
    "rank-rt": "rank_rt_detr/configs/rank_rtdetr_r50vd_6x_coco.py",
}
BATCH = [image(48, 64, 3, seed=3), image(64, 48, 1, seed=4)]


@pytest.fixture(scope="module", params=DETECTORS.values(), ids=DETECTORS.keys())
def detector(request: pytest.FixtureRequest) -> nn.Module:
    return tiny(f"projects/{request.param}").train()


def losses(detector: nn.Module) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return detector(BATCH)


class Counted:
    """Puts a counter before a method of an object, as a subclass that calls ``super()`` would."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.calls = patch, []

    def __call__(self, part: object, name: str) -> None:
        method = getattr(type(part), name)

        @functools.wraps(method)
        def counted(*args, **kwargs):
            self.calls.append(name)
            return method(*args, **kwargs)

        own = type(f"Own{type(part).__name__}", (type(part),), {name: counted})
        self.patch.setattr(part, "__class__", own)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def test_layer_by_layer_gives_the_same_losses(detector: nn.Module, counted: Counted) -> None:
    expected = losses(detector)
    assert not followed(detector)
    for part in ("criterion", "matcher"):
        for name in CALLED[part]:
            owner = detector.criterion if part == "criterion" else detector.criterion.matcher
            if hasattr(owner, name):
                counted(owner, name)
    counted(detector, "_set_aux_loss")
    found = losses(detector)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    assert {*LAYER_METHODS[:4], "forward", "match", "_set_aux_loss"} <= set(counted.calls)
