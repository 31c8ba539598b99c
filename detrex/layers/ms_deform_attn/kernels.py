"""Triton kernels of deformable attention, forward and backward.

A program computes one head of BLOCK neighbouring queries of one image, so that their samples hit
the same cache lines; the image is the slowest axis of the grid, so that its values stay in L2.
Values may be bf16 or fp16; coordinates, weights and every sum are fp32.

Legend: Q queries of the block, C channels of the head (padded to a power of two).
"""

from __future__ import annotations

import triton
import triton.language as tl

# Image sizes and query counts change all the time: never a reason to compile again.
VARIABLE = ["tokens", "queries"]


@triton.jit
def _rows(queries, HEADS: tl.constexpr, BLOCK: tl.constexpr):
    """Row (Q,) of each query in (B, N, H), and whether the query exists."""
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row = (tl.program_id(2).to(tl.int64) * queries + query) * HEADS + tl.program_id(1)
    return row, query < queries


@triton.jit
def _level(levels, level):
    """Height, width and first token of a level."""
    row = levels + level * 3
    return tl.load(row), tl.load(row + 1), tl.load(row + 2)


@triton.jit
def _locate(places, sample, exists, height, width):
    """Column and row of the pixel to the upper left of each place, the place's distance from it,
    and whether any of the four pixels around the place is in the level."""
    x = tl.load(places + 2 * sample, mask=exists, other=0.0) * width - 0.5
    y = tl.load(places + 2 * sample + 1, mask=exists, other=0.0) * height - 0.5
    inside = exists & (x > -1) & (y > -1) & (x < width) & (y < height)
    x = tl.where(inside, x, 0.0)  # a huge or undefined number has no integer
    y = tl.where(inside, y, 0.0)
    column = tl.floor(x)
    row = tl.floor(y)
    return column.to(tl.int32), row.to(tl.int32), x - column, y - row, inside


@triton.jit
def _pixels(column, row, inside, height, width, first, STRIDE: tl.constexpr, DIM: tl.constexpr,
            CHANNELS: tl.constexpr):  # fmt: skip
    """Offsets (Q, C) of one pixel per query, and which of them are in the level."""
    channel = tl.arange(0, CHANNELS)
    here = inside & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    offset = (first + row * width + column).to(tl.int64) * STRIDE
    return offset[:, None] + channel[None, :], here[:, None] & (channel < DIM)[None, :]


@triton.jit(do_not_specialize=VARIABLE)
def forward_kernel(levels, value, places, weights, out, tokens, queries,
                   HEADS: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr,
                   DIM: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """out (B, N, H, D) from value (B, S, H, D), places (B, N, H, L, P, 2), weights (B, N, H, L, P)
    and levels (L, 3): height, width, first token."""
    rows, exists = _rows(queries, HEADS, BLOCK)
    value += tl.program_id(2).to(tl.int64) * tokens * HEADS * DIM + tl.program_id(1) * DIM
    total = tl.zeros((BLOCK, CHANNELS), tl.float32)
    for level in range(LEVELS):
        height, width, first = _level(levels, level)
        for point in range(POINTS):
            sample = (rows * LEVELS + level) * POINTS + point
            weight = tl.load(weights + sample, mask=exists, other=0.0)
            column, row, right, lower, inside = _locate(places, sample, exists, height, width)
            for corner in tl.static_range(4):
                share_x = right if corner % 2 else 1 - right
                share_y = lower if corner // 2 else 1 - lower
                offset, here = _pixels(column + corner % 2, row + corner // 2, inside, height,
                                       width, first, HEADS * DIM, DIM, CHANNELS)  # fmt: skip
                pixel = tl.load(value + offset, mask=here, other=0.0).to(tl.float32)
                total += (weight * share_x * share_y)[:, None] * pixel
    channel = tl.arange(0, CHANNELS)
    written = exists[:, None] & (channel < DIM)[None, :]
    tl.store(out + rows[:, None] * DIM + channel[None, :], total, mask=written)


@triton.jit(do_not_specialize=VARIABLE)
def backward_kernel(levels, value, places, weights, grad, grad_value, grad_places, grad_weights,
                    tokens, queries, HEADS: tl.constexpr, LEVELS: tl.constexpr,
                    POINTS: tl.constexpr, DIM: tl.constexpr, CHANNELS: tl.constexpr,
                    BLOCK: tl.constexpr):  # fmt: skip
    """Adds to grad_value, which starts at zero; writes grad_places and grad_weights."""
    rows, exists = _rows(queries, HEADS, BLOCK)
    head = tl.program_id(2).to(tl.int64) * tokens * HEADS * DIM + tl.program_id(1) * DIM
    channel = tl.arange(0, CHANNELS)
    read = exists[:, None] & (channel < DIM)[None, :]
    upper = tl.load(grad + rows[:, None] * DIM + channel[None, :], mask=read, other=0.0)
    upper = upper.to(tl.float32)
    for level in range(LEVELS):
        height, width, first = _level(levels, level)
        for point in range(POINTS):
            sample = (rows * LEVELS + level) * POINTS + point
            weight = tl.load(weights + sample, mask=exists, other=0.0)
            column, row, right, lower, inside = _locate(places, sample, exists, height, width)
            grad_weight = tl.zeros((BLOCK,), tl.float32)
            grad_x = tl.zeros((BLOCK,), tl.float32)
            grad_y = tl.zeros((BLOCK,), tl.float32)
            for corner in tl.static_range(4):
                share_x = right if corner % 2 else 1 - right
                share_y = lower if corner // 2 else 1 - lower
                offset, here = _pixels(column + corner % 2, row + corner // 2, inside, height,
                                       width, first, HEADS * DIM, DIM, CHANNELS)  # fmt: skip
                pixel = tl.load(value + head + offset, mask=here, other=0.0).to(tl.float32)
                dot = tl.sum(upper * pixel, axis=1)
                grad_weight += share_x * share_y * dot
                grad_x += share_y * dot if corner % 2 else -share_y * dot
                grad_y += share_x * dot if corner // 2 else -share_x * dot
                amount = (weight * share_x * share_y)[:, None] * upper
                tl.atomic_add(grad_value + head + offset, amount, mask=here, sem="relaxed")
            tl.store(grad_weights + sample, grad_weight, mask=exists)
            tl.store(grad_places + 2 * sample, weight * grad_x * width, mask=exists)
            tl.store(grad_places + 2 * sample + 1, weight * grad_y * height, mask=exists)
