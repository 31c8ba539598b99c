"""Every method on two processes whose share of the objects differs."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detrex.train.group import end_process
from tests.models import image, tiny

MR_DETR = "deformable_detr_r50_two_stage_12ep_plusplus.py"
METHODS = {
    "deformable": "deformable_detr/configs/deformable_detr_r50_two_stage_50ep.py",
    "h_deformable": "h_deformable_detr/configs/h_deformable_detr_r50_two_stage_12ep.py",
    "rank_detr": "rank_detr/configs/rank_detr_r50_two_stage_12ep.py",
    "rank_dino": "rank_detr/configs/rank_dino_r50_4scale_12ep.py",
    "dino": "dino/configs/dino-resnet/dino_r50_4scale_12ep.py",
    "align_detr": "align_detr/configs/aligndetr_k=2_r50_4scale_12ep.py",
    "dab_deformable": "dab_deformable_detr/configs/dab_deformable_detr_r50_50ep.py",
    "dn_deformable": "dn_deformable_detr/configs/dn_deformable_detr_r50_12ep.py",
    "detr": "detr/configs/detr_r50_300ep.py",
    "conditional": "conditional_detr/configs/conditional_detr_r50_50ep.py",
    "anchor": "anchor_detr/configs/anchor_detr_r50_50ep.py",
    "dab": "dab_detr/configs/dab_detr_r50_50ep.py",
    "dn": "dn_detr/configs/dn_detr_r50_50ep.py",
    "group": "group_detr/configs/group_detr_r50_50ep.py",
    "align_dab": "align_dab_detr/configs/align_dab_detr_r50_50ep.py",
    "co_dino": "co_detr/configs/co_dino_efficientnet_lite0_sample_data.py",
    "d_fine": "d_fine/configs/dfine_efficientnet_lite0_sample_data.py",
    "dac_detr": "dac_detr/configs/dac_detr_r50_12ep.py",
    "mr_detr": f"mr_detr_deformable/configs/{MR_DETR}",
    "mr_detr_align": f"mr_detr_align/configs/{MR_DETR}",
    "ms_detr": "ms_detr/configs/ms_detr_r50_12ep.py",
    "rtdetr_discrete": "rt_detr/configs/rtdetrv2_r50vd_dsp_1x_coco.py",
}
# Denoising and samples draw random numbers in each process, so one process cannot repeat them.
RANDOM = {"rank_dino", "dino", "align_detr", "dn_deformable", "dn", "co_dino", "rtdetr_discrete"}
RANDOM |= {"d_fine", "dac_detr", "mr_detr_align"}
# Objects of the one image of each process: two steps, a batch without any, more than queries (10).
STEPS = [(3, 0), (2, 0), (0, 0), (40, 1)]
SECONDS = 180


def build(name: str) -> nn.Module:
    # DETR's loss is a weighted mean over queries; with equal weights it is the joined batch's.
    # Synchronised norms need GPUs.
    options = {"detr": {"criterion__eos_coef": 1.0}, "rtdetr_discrete": {"neck__norm": "BN"}}
    return tiny(f"projects/{METHODS[name]}", **options.get(name, {})).train()


def share(rank: int, step: int) -> list[dict]:
    """A process's batch; all images have one size, so that joining them adds no padding."""
    return [image(48, 64, STEPS[step][rank], seed=10 * step + rank)]


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


def four_steps(name: str, rank: int) -> dict:
    """Losses of every step, gradients of the first, and the sum of all parameters at the end."""
    model = DistributedDataParallel(build(name), find_unused_parameters=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    losses = []
    for step in range(len(STEPS)):
        loss = model(share(rank, step))
        optimizer.zero_grad()
        sum(loss.values()).backward()
        if step == 0:
            first = gradients(model.module)
        optimizer.step()
        losses.append({key: value.item() for key, value in loss.items()})
    total = sum(p.double().sum().item() for p in model.parameters())
    return {"losses": losses, "gradients": first, "total": total}


def work(rank: int, folder: str) -> None:
    """What each process does; the rest of the test reads its file."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=SECONDS)
    )
    torch.save({name: four_steps(name, rank) for name in METHODS}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
    end_process(0)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("two_processes")
    processes = torch.multiprocessing.spawn(work, (str(folder),), nprocs=2, join=False)
    deadline = time.monotonic() + SECONDS
    try:
        while not processes.join(timeout=1):
            assert time.monotonic() < deadline, "the processes wait for each other"
    finally:
        for process in processes.processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", METHODS)
def test_uneven_and_empty_shares_train_both_processes_alike(ranks: list[dict], name: str) -> None:
    ours, theirs = (results[name] for results in ranks)
    for mine, other in zip(ours["losses"], theirs["losses"], strict=True):
        assert mine.keys() == other.keys()
        assert torch.tensor([*mine.values(), *other.values()]).isfinite().all()
    without_objects = theirs["losses"][0]
    assert all(value == 0 for key, value in without_objects.items() if "bbox" in key)
    assert ours["losses"][0]["loss_bbox"] > 0
    assert ours["total"] == theirs["total"]
    assert any(grad.any() for grad in ours["gradients"].values())


@pytest.mark.parametrize("name", sorted(METHODS.keys() - RANDOM))
def test_gradients_equal_those_of_the_joined_batch(ranks: list[dict], name: str) -> None:
    model = build(name)
    losses = model([*share(0, 0), *share(1, 0)])
    sum(losses.values()).backward()
    scale = max(grad.abs().max() for grad in gradients(model).values()).item()
    for key, expected in gradients(model).items():
        for results in ranks:
            found = results[name]["gradients"][key]
            torch.testing.assert_close(
                found,
                expected,
                rtol=1e-3,
                atol=1e-6 * scale,
                msg=lambda text, k=key: f"{k}: {text}",
            )
