"""Memory of a process in training, two processes: train.sharding=full against
DistributedDataParallel.

DINO on Swin-L and on ViT-L, AdamW, one image of 64x64 in each process, so that activations do not
count. CPU: what tensors take is counted, and the peak is the process's resident memory.
"""

from __future__ import annotations

import tempfile

import torch
import torch.distributed as dist
from detectron2.config import LazyConfig
from torch import Tensor

from benchmarks.attention import resident_peak
from benchmarks.step import ROOT, images
from detrex.checkpoint.model import build_model
from detrex.config import get_config
from detrex.train.build import distributed
from detrex.train.optim import build_optimizer
from detrex.utils.errors import InputError

CONFIG = ROOT / "projects/dino/configs/dino-swin/dino_swin_large_384_4scale_12ep.py"
BACKBONES = {"Swin-L": "swin_large_384", "ViT-L": "vit_large"}
PROCESSES = 2
STEPS = 2


def mib(tensors: list[Tensor]) -> float:
    """Mebibytes of this process's tensors, or of its shares of them."""
    local = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
    return sum(t.numel() * t.element_size() for t in local) / 2**20


def train(name: str, sharding: str) -> dict[str, float]:
    """Some steps in this process of a group; return its mebibytes and the last loss."""
    cfg = LazyConfig.load(str(CONFIG))
    cfg.model.update(get_config("common/models/multi_scale.py")[BACKBONES[name]])
    cfg.train.device, cfg.train.sharding, cfg.train.channels_last = "cpu", sharding, False
    torch.manual_seed(0)
    network = build_model(cfg).train()
    model = distributed(cfg, network)
    optimizer = build_optimizer(cfg, network)
    for step in range(STEPS):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = sum(model(images(1, (64, 64), "cpu")).values())
        loss.backward()
        optimizer.step()
    parameters = [*network.parameters()]
    averages = [t for state in optimizer.state.values() for t in state.values() if t.numel() > 1]
    return {
        "weights": mib(parameters),
        "gradients": mib([p.grad for p in parameters if p.grad is not None]),
        "optimizer": mib(averages),
        "peak": resident_peak() / 1024,
        "loss": loss.item(),
    }


def _work(rank: int, folder: str, name: str, sharding: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", PROCESSES)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES)
    figures = train(name, sharding)
    if rank == 0:
        torch.save(figures, f"{folder}/figures.pt")
    dist.destroy_process_group()


def measure(name: str, sharding: str) -> dict[str, float]:
    """The figures of the first of two new processes."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (folder, name, sharding)
        torch.multiprocessing.spawn(_work, arguments, nprocs=PROCESSES)
        return torch.load(f"{folder}/figures.pt", weights_only=True)


def run(device: str = "cpu") -> list[dict]:
    """Two rows a model: bytes counted, and the peak of the process.

    Raises:
        InputError: a device that is not the CPU.
        ValueError: the losses differ.
    """
    if device != "cpu":
        raise InputError("benchmark sharding: it is for two processes on the CPU")
    rows = []
    for name in BACKBONES:
        ddp, full = (measure(name, sharding) for sharding in ("none", "full"))
        if abs(full["loss"] / ddp["loss"] - 1) > 1e-3:
            raise ValueError(f"the losses are {ddp['loss']} and {full['loss']}")
        kinds = ("weights", "gradients", "optimizer")
        sides = {"ddp": ddp, "full": full}
        row = {f"{side}_{k}_mib": x[k] for side, x in sides.items() for k in kinds}
        totals = [sum(x[k] for k in kinds) for x in sides.values()]
        what = f"DINO {name}, a process of {PROCESSES}"
        rows.append({"what": f"{what}: tensors", **row, "ratio": totals[0] / totals[1]})
        peaks = {f"{side}_mib": x["peak"] for side, x in sides.items()}
        rows.append({"what": f"{what}: peak", **peaks, "ratio": ddp["peak"] / full["peak"]})
    return rows
