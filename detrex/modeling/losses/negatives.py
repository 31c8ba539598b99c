"""The loss of all logits as negatives, the one term over every query and class.

On the CPU ``negatives.c`` computes it. Its gradient is computed again from the logits: autograd
would keep half a dozen tensors of their size.

Legend: B images, L layers, N queries, K classes, M matches.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from detrex.utils.compiler import call_c, library_or_reason

SOURCE = Path(__file__).with_name("negatives.c")


@torch.no_grad()
def negative_sums(logits: Tensor, scale: float, gamma: float) -> Tensor:
    """scale * p^gamma * softplus(x) of float32 logits x (L, B, N, K) with p = sigmoid(x), (L,)."""
    if _has_kernel(logits, gamma):
        sums = torch.empty(logits.shape[:2], dtype=torch.float64)
        _call("negative_sums", logits, sums)
        return (sums.sum(1) * scale).float()
    weight = logits.sigmoid().pow_(gamma)
    return weight.mul_(F.softplus(logits)).flatten(1).sum(1) * scale


class NegativesAndMatched(torch.autograd.Function):
    """(logits (L, B, N, K), their :func:`negative_sums`, scale, gamma, whether p^gamma counts as a
    constant, place of the matches) to the sums (L,) without the matches and the logits (M,) at that
    place (layer, image, query, class), which names no logit twice. Both are differentiable; one
    gradient is written where two would have to be added."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        logits: Tensor,
        sums: Tensor,
        scale: float,
        gamma: float,
        detached: bool,
        *place: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(logits, *place)
        ctx.scale, ctx.gamma, ctx.detached = scale, gamma, detached
        matched = logits[place]
        theirs = matched.sigmoid().pow_(gamma).mul_(F.softplus(matched))
        return sums.index_add(0, place[0], theirs, alpha=-scale), matched

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_sums: Tensor, grad_matched: Tensor) -> tuple:
        logits, *place = ctx.saved_tensors
        slopes = _slopes(logits, grad_sums * ctx.scale, ctx.gamma, ctx.detached)
        slopes.index_put_(tuple(place), grad_matched)
        return slopes, *[None] * 4, *[None] * len(place)


def _slopes(logits: Tensor, factor: Tensor, gamma: float, detached: bool) -> Tensor:
    """factor (L,) times the derivative p^gamma (gamma (1 - p) softplus + p), (L, B, N, K); only
    p^gamma p of a ``detached`` weight."""
    if detached:
        return logits.sigmoid().pow_(gamma + 1).mul_(factor.view(-1, 1, 1, 1))
    if _has_kernel(logits, gamma):
        slopes = torch.empty(logits.shape)
        _call("negative_slopes", logits, factor.contiguous(), slopes)
        return slopes
    p = logits.sigmoid()
    slopes = (1 - p).mul_(F.softplus(logits)).mul_(gamma).add_(p)
    return slopes.mul_(p.pow_(gamma)).mul_(factor.view(-1, 1, 1, 1))


def _has_kernel(logits: Tensor, gamma: float) -> bool:
    suits = logits.is_cpu and logits.dtype is torch.float32 and gamma == 2
    return suits and not isinstance(library_or_reason(SOURCE), str)


def _call(name: str, logits: Tensor, *tensors: Tensor) -> None:
    layers, images, queries, classes = logits.shape
    if logits.stride()[2:] != (classes, 1):
        logits = logits.contiguous()
    sizes = layers, images, queries * classes, torch.get_num_threads()
    function = getattr(library_or_reason(SOURCE), name)
    call_c(function, logits, list(logits.stride()[:2]), *tensors, *sizes)
