"""Training in the processes of a group: NCCL on GPUs, gloo on the CPU."""

from __future__ import annotations

import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from benchmarks.gpu.checks import CheckFailed, Result, demand, within
from benchmarks.gpu.measures import full_float32
from tests.models import image, tiny

SECONDS = 80


def check_group(device: str, processes: int) -> Result:
    """Gradients of a step, one image for each process, equal those of the joined batch; after three
    steps all processes have the same weights."""
    with tempfile.TemporaryDirectory() as folder:
        context = torch.multiprocessing.spawn(
            work, (processes, device, folder), nprocs=processes, join=False
        )
        deadline = time.monotonic() + SECONDS
        try:
            while not context.join(timeout=1):
                if time.monotonic() > deadline:
                    raise CheckFailed(f"the processes still wait after {SECONDS} s")
        finally:
            for process in context.processes:
                process.kill()
        results = [
            torch.load(Path(folder, f"{rank}.pt"), weights_only=True) for rank in range(processes)
        ]
    sums = {result["sum"] for result in results}
    demand(len(sums) == 1, f"the processes have different weights: sums {sums}")
    expected = joined_gradients(device, processes)
    norm = torch.cat([grad.flatten() for grad in expected.values()]).norm().item()
    apart = torch.cat([(results[0]["gradients"][k] - g).flatten() for k, g in expected.items()])
    backend = results[0]["backend"]
    return within({f"{backend}: gradients": (apart.norm().item() / norm, 1e-3)})


def joined_gradients(device: str, processes: int) -> dict[str, torch.Tensor]:
    model = tiny().to(device).train()
    with full_float32():
        sum(model([share(rank) for rank in range(processes)]).values()).backward()
    return gradients(model)


def share(rank: int) -> dict:
    """A process's image: all have one size, so that joining them adds no padding."""
    return image(64, 96, objects=3 + rank, seed=rank)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.cpu().clone() for n, p in model.named_parameters() if p.requires_grad}


def work(rank: int, processes: int, device: str, folder: str) -> None:
    """What each process does; the check reads its file."""
    backend = "nccl" if device == "cuda" else "gloo"
    store = dist.FileStore(f"{folder}/store", processes)
    if device == "cuda":
        torch.cuda.set_device(rank)
    time_limit = timedelta(seconds=SECONDS)
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=processes, timeout=time_limit
    )
    ids = [rank] if device == "cuda" else None
    model = DistributedDataParallel(tiny().to(device).train(), device_ids=ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    for step in range(3):
        optimizer.zero_grad()
        with full_float32():
            sum(model([share(rank)]).values()).backward()
        if step == 0:
            first = gradients(model.module)
        optimizer.step()
    total = torch.stack([p.detach().double().sum() for p in model.parameters()]).sum()
    numbers = [torch.zeros_like(total) for _ in range(processes)]
    dist.all_gather(numbers, total)
    result = {"gradients": first, "sum": total.item(), "backend": backend}
    demand(len({x.item() for x in numbers}) == 1, "all_gather gave different sums")
    torch.save(result, f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)  # a thread of the group may abort an interpreter that ends
