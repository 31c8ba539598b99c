"""Triton kernels of deformable attention, forward and backward, from what the layers project.

A program computes one head of a block of neighbouring queries of one image, so that their samples
hit the same cache lines; the image is the slowest axis of the grid, so that its values stay in L2.
All samples of a query are one tile: its softmax and its places never leave the registers. Values,
offsets and logits may be bf16 or fp16; reference, coordinates, weights and every sum are fp32.

Tensors are those of ``deformable_attention``; BOX is 2 or 4 numbers per reference, 0 without.
Legend: Q queries of the block, K samples of a query (levels * points) and C channels of the head,
both padded to a power of two; HEADS, LEVELS, POINTS and DIM are the true sizes.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Image sizes and query counts change all the time: never a reason to compile again.
VARIABLE = ["tokens", "queries"]


@triton.jit
def _weigh(logits, index, exists, BOX: tl.constexpr):
    """Softmax over the samples (Q, K), or the weights themselves."""
    logit = tl.load(logits + index, mask=exists, other=0.0).to(tl.float32)
    if BOX == 0:
        weight = logit
    else:
        logit = tl.where(exists, logit, -1e30)  # finite: padded queries stay defined
        power = tl.exp(logit - tl.max(logit, axis=1)[:, None])
        weight = power / tl.sum(power, axis=1)[:, None]
    return weight


@triton.jit
def _unweigh(weight, grad_weight, BOX: tl.constexpr):
    """The gradient (Q, K) of the logits from that of the weights."""
    if BOX == 0:
        grad_logit = grad_weight
    else:
        grad_logit = weight * (grad_weight - tl.sum(weight * grad_weight, axis=1)[:, None])
    return grad_logit


@triton.jit
def _along(reference, place, offset, exists, size, axis, POINTS: tl.constexpr, BOX: tl.constexpr):
    """Pixel coordinates along an axis, and what an offset of one adds to a place in [0, 1], (Q, K).

    Pixel centres lie at (i + 0.5) / size. Offsets start as whole pixels, where the slope of a
    bilinear sample jumps and rounding decides the side: so divisions and products are rounded as
    the original CUDA kernel's, with no fused multiply-add before the half pixel.
    """
    size = size.to(tl.float32)
    step = tl.zeros(place.shape, tl.float32) + 1.0
    if BOX > 0:
        start = tl.load(reference + place + axis, mask=exists, other=0.0)
    if BOX == 2:
        step = step / size
        offset = start + tl.div_rn(offset, size)
    if BOX == 4:
        half = 0.5 * tl.load(reference + place + axis + 2, mask=exists, other=0.0)
        step = half / POINTS
        offset = start + tl.div_rn(offset, POINTS * 1.0) * half
    return tl.fma(offset, size, 0.0) - 0.5, step


@triton.jit
def _corner(corner: tl.constexpr, x, y, inside, height, width, first, STRIDE: tl.constexpr):
    """Of one of the four pixels around each place: its share, the slope of its share along x and
    y, its offset in value, and whether it is in the level; all (Q, K)."""
    column = tl.floor(x)
    row = tl.floor(y)
    right = x - column
    lower = y - row
    share_x = right if corner % 2 else 1 - right
    share_y = lower if corner // 2 else 1 - lower
    slope_x = share_y if corner % 2 else -share_y
    slope_y = share_x if corner // 2 else -share_x
    column = column.to(tl.int32) + corner % 2
    row = row.to(tl.int32) + corner // 2
    here = inside & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    offset = (first + row * width + column).to(tl.int64) * STRIDE
    return share_x * share_y, slope_x, slope_y, offset, here


@triton.jit
def _block(queries, HEADS: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr,
           BOX: tl.constexpr, BLOCK: tl.constexpr, SAMPLES: tl.constexpr):  # fmt: skip
    """Of the block's queries: row (Q,) in (B, N, H), index (Q, K) in (B, N, H, L, P), place (Q, K)
    in reference, which of them exist, and the level (K,) of a sample."""
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    sample = tl.arange(0, SAMPLES)
    exists = (query < queries)[:, None] & (sample < LEVELS * POINTS)[None, :]
    level = tl.minimum(sample // POINTS, LEVELS - 1)
    image = tl.program_id(2).to(tl.int64) * queries + query
    row = image * HEADS + tl.program_id(1)
    index = row[:, None] * (LEVELS * POINTS) + sample[None, :]
    place = (image[:, None] * LEVELS + level[None, :]) * BOX
    return row, index, place, exists, level


@triton.jit
def _locate(levels, level, offsets, index, reference, place, exists, POINTS: tl.constexpr,
            BOX: tl.constexpr):  # fmt: skip
    """Places x, y in pixels (Q, K), zero where all four pixels around are outside the level, which
    are not; what an offset of one adds to a place; height, width and first token (1, K) of the
    level."""
    height = tl.load(levels + 3 * level)[None, :]
    width = tl.load(levels + 3 * level + 1)[None, :]
    first = tl.load(levels + 3 * level + 2)[None, :]
    x = tl.load(offsets + 2 * index, mask=exists, other=0.0).to(tl.float32)
    y = tl.load(offsets + 2 * index + 1, mask=exists, other=0.0).to(tl.float32)
    x, step_x = _along(reference, place, x, exists, width, 0, POINTS, BOX)
    y, step_y = _along(reference, place, y, exists, height, 1, POINTS, BOX)
    inside = exists & (x > -1) & (y > -1) & (x < width) & (y < height)
    x = tl.where(inside, x, 0.0)  # a huge or undefined number has no integer
    y = tl.where(inside, y, 0.0)
    return x, y, inside, step_x, step_y, height, width, first


@triton.jit(do_not_specialize=VARIABLE)
def forward_kernel(levels, value, offsets, logits, reference, out, tokens, queries,
                   HEADS: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr,
                   DIM: tl.constexpr, BOX: tl.constexpr, BLOCK: tl.constexpr,
                   SAMPLES: tl.constexpr, CHANNELS: tl.constexpr):  # fmt: skip
    """out (B, N, H, D); levels (L, 3) holds height, width and first token."""
    row, index, place, exists, level = _block(queries, HEADS, LEVELS, POINTS, BOX, BLOCK, SAMPLES)
    x, y, inside, _, _, height, width, first = _locate(
        levels, level, offsets, index, reference, place, exists, POINTS, BOX
    )
    weight = _weigh(logits, index, exists, BOX)
    channel = tl.arange(0, CHANNELS)
    value += tl.program_id(2).to(tl.int64) * tokens * HEADS * DIM + tl.program_id(1) * DIM
    total = tl.zeros((BLOCK, SAMPLES, CHANNELS), tl.float32)
    for corner in tl.static_range(4):
        share, _, _, offset, here = _corner(corner, x, y, inside, height, width, first, HEADS * DIM)
        read = here[:, :, None] & (channel < DIM)[None, None, :]
        pixel = tl.load(value + (offset[:, :, None] + channel[None, None, :]), mask=read, other=0.0)
        total += (weight * share)[:, :, None] * pixel.to(tl.float32)
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    written = (query < queries)[:, None] & (channel < DIM)[None, :]
    tl.store(out + row[:, None] * DIM + channel[None, :], tl.sum(total, axis=1), mask=written)


@triton.jit
def _store_shares(target, row, exists, grad_x, grad_y, offsets, index, inside, level,
                  LEVELS: tl.constexpr, POINTS: tl.constexpr, BOX: tl.constexpr):  # fmt: skip
    """Sums over the points of each level: the head's gradient of the reference, from that of the
    places in [0, 1] (Q, K)."""
    spread: tl.constexpr = 0.5 / POINTS
    x = tl.load(offsets + 2 * index, mask=inside, other=0.0).to(tl.float32) * spread
    y = tl.load(offsets + 2 * index + 1, mask=inside, other=0.0).to(tl.float32) * spread
    for i in tl.static_range(LEVELS):
        place = target + (row * LEVELS + i) * BOX
        part_x = tl.where((level == i)[None, :], grad_x, 0.0)
        part_y = tl.where((level == i)[None, :], grad_y, 0.0)
        tl.store(place, tl.sum(part_x, axis=1), mask=exists)
        tl.store(place + 1, tl.sum(part_y, axis=1), mask=exists)
        if BOX == 4:
            tl.store(place + 2, tl.sum(part_x * x, axis=1), mask=exists)
            tl.store(place + 3, tl.sum(part_y * y, axis=1), mask=exists)


@triton.jit(do_not_specialize=VARIABLE)
def backward_kernel(levels, value, offsets, logits, reference, grad, grad_value, grad_offsets,
                    grad_logits, grad_reference, tokens, queries,
                    HEADS: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr,
                    DIM: tl.constexpr, BOX: tl.constexpr, BLOCK: tl.constexpr,
                    SAMPLES: tl.constexpr, CHANNELS: tl.constexpr,
                    MOVING: tl.constexpr):  # fmt: skip
    """Adds to grad_value, which starts at zero; writes the other gradients, with MOVING also each
    head's share of the reference's (B, N, H, L, BOX)."""
    row, index, place, exists, level = _block(queries, HEADS, LEVELS, POINTS, BOX, BLOCK, SAMPLES)
    x, y, inside, step_x, step_y, height, width, first = _locate(
        levels, level, offsets, index, reference, place, exists, POINTS, BOX
    )
    weight = _weigh(logits, index, exists, BOX)
    channel = tl.arange(0, CHANNELS)
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    read = (query < queries)[:, None] & (channel < DIM)[None, :]
    upper = tl.load(grad + row[:, None] * DIM + channel[None, :], mask=read, other=0.0)
    upper = upper.to(tl.float32)[:, None, :]
    head = tl.program_id(2).to(tl.int64) * tokens * HEADS * DIM + tl.program_id(1) * DIM
    zeros = tl.zeros((BLOCK, SAMPLES), tl.float32)
    grad_weight, grad_x, grad_y = zeros, zeros, zeros
    for corner in tl.static_range(4):
        share, slope_x, slope_y, offset, here = _corner(
            corner, x, y, inside, height, width, first, HEADS * DIM
        )
        moved = here[:, :, None] & (channel < DIM)[None, None, :]
        offset = (head + offset)[:, :, None] + channel[None, None, :]
        pixel = tl.load(value + offset, mask=moved, other=0.0).to(tl.float32)
        dot = tl.sum(upper * pixel, axis=2)
        grad_weight += share * dot
        grad_x += slope_x * dot
        grad_y += slope_y * dot
        amount = (weight * share)[:, :, None] * upper
        tl.atomic_add(grad_value + offset, amount, mask=moved, sem="relaxed")
    grad_x *= weight * width
    grad_y *= weight * height
    tl.store(grad_logits + index, _unweigh(weight, grad_weight, BOX), mask=exists)
    tl.store(grad_offsets + 2 * index, grad_x * step_x, mask=exists)
    tl.store(grad_offsets + 2 * index + 1, grad_y * step_y, mask=exists)
    if MOVING:
        _store_shares(grad_reference, row, query < queries, grad_x, grad_y, offsets,
                       index, inside, level, LEVELS, POINTS, BOX)  # fmt: skip
