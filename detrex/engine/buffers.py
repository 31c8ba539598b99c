"""Buffers such as BatchNorm's running statistics: each process computes them of its own images."""

from __future__ import annotations

import torch.distributed as dist
from detectron2.utils import comm
from torch import nn

from detrex.modeling.ema import ModelEma


def share_buffers(model: nn.Module, ema: ModelEma | None) -> None:
    """Give every process the main one's saved buffers, of the model and of its averages.

    A checkpoint holds the main process's; with these everywhere, what is evaluated, saved and
    resumed is one model. Parameters are equal anyway. Every process must call this.
    """
    if comm.get_world_size() == 1:
        return
    saved = model.state_dict(keep_vars=True)
    for name, buffer in model.named_buffers():
        if name not in saved:
            continue
        dist.broadcast(buffer, src=0)
        if ema is not None:
            average = ema.averages[name].to(buffer.device)  # it may live on the CPU
            dist.broadcast(average, src=0)
            ema.averages[name].copy_(average)
