"""Every method on an accelerator: a training step and an evaluation, with the CPU's numbers."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.models import image, tiny
from tests.simulated_device import pinned_memory

CONFIGS = """
align_dab_detr/configs/align_dab_detr_r50_50ep
align_detr/configs/align_h_deformable_detr_r50_two_stage_12ep
anchor_detr/configs/anchor_detr_r50_50ep
co_detr/configs/co_deformable_detr_r50_1x_coco
conditional_detr/configs/conditional_detr_r50_50ep
dab_deformable_detr/configs/dab_deformable_detr_r50_two_stage_50ep
dab_detr/configs/dab_detr_r50_50ep
deformable_detr/configs/deformable_detr_r50_two_stage_50ep
detr/configs/detr_r50_300ep
group_detr/configs/group_detr_r50_50ep
h_deformable_detr/configs/h_deformable_detr_r50_two_stage_12ep
mr_detr_deformable/configs/deformable_detr_r50_two_stage_12ep_plusplus
ms_detr/configs/ms_detr_r50_12ep
rank_detr/configs/rank_detr_r50_two_stage_12ep
rank_detr/configs/rank_detr_r50_two_stage_12ep_align
""".split()
# Denoising draws labels on an accelerator in another way than on the CPU.
DENOISING = """
align_detr/configs/aligndetr_k=2_r50_4scale_12ep
co_detr/configs/co_dino_efficientnet_lite0_sample_data
dac_detr/configs/dac_detr_r50_12ep
ddq_detr/configs/ddq_detr_r50_4scale_12ep
dino/configs/dino-resnet/dino_r50_4scale_12ep
dn_deformable_detr/configs/dn_deformable_detr_r50_12ep
dn_detr/configs/dn_detr_r50_50ep
mr_detr_align/configs/deformable_detr_r50_two_stage_12ep_plusplus
mr_detr_dino/configs/deformable_detr_r50_two_stage_12ep_plusplus
rank_detr/configs/rank_dino_r50_4scale_12ep
rank_rt_detr/configs/rank_rtdetr_efficientnet_lite0_sample_data
rt_detr/configs/rtdetr_r18vd_6x_coco
""".split()
BATCH = [image(64, 96, 2, seed=3), image(96, 64, 1, seed=4)]


def step(model: nn.Module) -> tuple[dict[str, float], Tensor, list[Tensor]]:
    """Losses of a step, the gradient, and afterwards the best scores of each image."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    torch.manual_seed(0)
    losses = model.train()(BATCH)
    sum(losses.values()).backward()
    gradient = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).cpu()
    optimizer.step()
    with torch.no_grad():
        results = model.eval()(BATCH)
    assert all(p.isfinite().all() for p in parameters)
    scores = [result["instances"].to("cpu").scores.sort().values for result in results]
    return {name: loss.item() for name, loss in losses.items()}, gradient, scores


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: Path(c).name)
def test_a_step_and_an_evaluation_have_the_cpus_numbers(config, monkeypatch) -> None:
    monkeypatch.setenv("DETREX_ATTENTION", "pytorch")  # as on the device
    model = tiny(f"projects/{config}.py")
    losses, gradient, scores = step(copy.deepcopy(model).to("sim"))
    expected, expected_gradient, expected_scores = step(model)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert losses[name] == pytest.approx(value, rel=1e-5, abs=1e-7), name
    assert (gradient - expected_gradient).norm() <= 1e-3 * expected_gradient.norm()
    for one, other in zip(scores, expected_scores, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("config", DENOISING, ids=lambda c: Path(c).name)
def test_methods_with_random_numbers_stay_finite(config) -> None:
    losses, gradient, scores = step(tiny(f"projects/{config}.py").to("sim"))
    assert gradient.isfinite().all() and all(len(x) and x.isfinite().all() for x in scores)
    assert torch.tensor(list(losses.values())).isfinite().all()


def test_mixed_precision_stays_near() -> None:
    model = tiny("projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py").train()
    expected = {name: loss.item() for name, loss in model(BATCH).items()}
    model.to("sim")
    with torch.autocast("sim", torch.bfloat16):
        losses = model(BATCH)
    sum(losses.values()).backward()
    assert sum(losses.values()).item() == pytest.approx(sum(expected.values()), rel=0.1)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_copies_beside_the_device_change_no_number() -> None:
    """The host reads costs and detections once they are there."""
    model = tiny("projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py").to("sim")
    expected, _, scores = step(copy.deepcopy(model))
    with pinned_memory():
        losses, _, others = step(model)
    assert losses == expected
    assert all(torch.equal(one, other) for one, other in zip(scores, others, strict=True))
