"""What a detector costs, counted: parameters, FLOPs, memory of its activations; no clock needed."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.analysis import FlopCountAnalysis
from torch import Tensor, nn

from detrex.layers.ms_deform_attn.function import VARIABLE
from detrex.modeling.queries import query_count

PARTS = ("backbone", "neck", "transformer.encoder", "transformer.decoder")
REST = "heads and the rest"


def one_image(height: int, width: int) -> list[dict]:
    """A batch of one random image with one object."""
    torch.manual_seed(0)
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(torch.tensor([[0.25, 0.25, 0.75, 0.75]]) * width)
    instances.gt_boxes.clip((height, width))
    instances.gt_classes = torch.zeros(1, dtype=torch.int64)
    pixels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return [{"image": pixels, "height": height, "width": width, "instances": instances}]


def parameters(model: nn.Module) -> tuple[int, int]:
    """Count all parameters, and all but the rows of tables by query that inference does not read.

    Tables with a row per query (learned contents, embeddings and biases by rank) are read as far
    as the primary query group reaches. Modules for training only count both times.
    """
    total, primary = query_count(model.groups), model.groups[0].one_block.size
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    by_query = [table for table in tables if table.num_embeddings == total]
    unread = sum((total - primary) * table.embedding_dim for table in by_query)
    everything = sum(p.numel() for p in model.parameters())
    return everything, everything - unread


def parameters_by_part(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Part -> (all parameters, those that are trained); heads count as the rest, and once."""
    counts: dict[str, Counter] = {part: Counter() for part in (*PARTS, REST)}
    named = dict(model.named_parameters(remove_duplicate=False))
    heads = {id(p) for name, p in named.items() if _part(name) == REST}
    for name, parameter in named.items():
        part = _part(name)
        if part == REST or id(parameter) not in heads:
            counts[part].update({id(parameter): parameter.numel()})
    trained = {id(p) for p in named.values() if p.requires_grad}
    sizes = {id(p): p.numel() for p in named.values()}
    return {
        part: (sum(sizes[i] for i in ids), sum(sizes[i] for i in ids if i in trained))
        for part, ids in counts.items()
    }


def flops(model: nn.Module, batch: list[dict]) -> float:
    """Count an inference's multiply-adds with fvcore."""
    return flops_by_part(model, batch)["total"]


def flops_by_part(model: nn.Module, batch: list[dict]) -> dict[str, float]:
    """Multiply-adds of an inference in each part, and "total", as fvcore counts them.

    Deformable attention counts four per sample and channel (bilinear), dense attention its two
    products, layer and group norms five per element; additions and activations nothing.
    """
    loggers = [logging.getLogger(name) for name in ("fvcore", "detectron2")]
    with torch.no_grad(), _plain_attention(), _quiet(loggers):
        analysis = FlopCountAnalysis(model, batch)
        analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_flops)
        modules = analysis.by_module()
    counts = {part: float(sum(modules[f"model.{name}"] for name in _names(part))) for part in PARTS}
    total = float(modules[""])
    return {**counts, REST: total - sum(counts.values()), "total": total}


def activation_bytes(model: nn.Module, batch: list[dict]) -> int:
    """Bytes that a training step's forward pass keeps for its backward pass.

    Every storage counts once; parameters and buffers, which are there anyway, do not count.
    """
    resident = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in resident:
            saved[place] = tensor  # held, so that no other tensor gets its memory
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(batch)
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def _names(part: str) -> tuple[str, str]:
    return part, f"{part}_layers"  # Anchor DETR's transformer lists its layers as its own


def _part(name: str) -> str:
    starts = {part: tuple(f"{prefix}." for prefix in _names(part)) for part in PARTS}
    return next((part for part, prefixes in starts.items() if name.startswith(prefixes)), REST)


def _attention_flops(inputs: Sequence, outputs: Sequence) -> float:
    # q (..., N, C) and k (..., M, C): two products of N x M x C, which fvcore does not know.
    q, k = (value.type().sizes() for value in inputs[:2])
    return 2 * math.prod(q) * k[-2]


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Compute deformable attention in PyTorch's own operators, which fvcore can count."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "pytorch"
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        os.environ.update({VARIABLE: before} if before is not None else {})


@contextmanager
def _quiet(loggers: Sequence[logging.Logger]) -> Iterator[None]:
    """fvcore warns of every operator that it counts as nothing: additions, reshapes."""
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
