from __future__ import annotations

import logging
import math

import pytest
import torch

from benchmarks.baseline.attention import attention_from_logits
from detrex.layers import MultiScaleDeformableAttention, multi_scale_deformable_attention
from detrex.layers.ms_deform_attn import attention_path, discrete_attention, native
from detrex.utils.errors import InputError

SHAPES = [(4, 5), (2, 3)]
TOKENS = sum(h * w for h, w in SHAPES)


@pytest.fixture(params=["pytorch", "c"])
def path(request, monkeypatch) -> str:
    if request.param == "c" and native.why_unavailable(torch.float32):
        pytest.skip(native.why_unavailable(torch.float32))
    monkeypatch.setenv("DETREX_ATTENTION", request.param)
    return request.param


def make_inputs(batch=2, queries=3, heads=2, dim=4, points=2, dtype=torch.float64, seed=0) -> list:
    """value, shapes, locations (some outside the image), weights."""
    generator = torch.Generator().manual_seed(seed)
    options = dict(generator=generator, dtype=dtype)
    samples = (batch, queries, heads, len(SHAPES), points)
    return [
        torch.randn(batch, TOKENS, heads, dim, **options),
        SHAPES,
        torch.rand(*samples, 2, **options) * 1.6 - 0.3,
        torch.rand(samples, **options),
    ]


def bilinear(level: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Value (D,) of a level (H, W, D) at pixel coordinates, zero outside, by the definition."""
    height, width, dim = level.shape
    total = torch.zeros(dim, dtype=level.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * level[row, column]
    return total


def test_sampling_equals_the_definition(path: str) -> None:
    value, _, locations, weights = make_inputs()
    batch, queries, heads, _, points = weights.shape
    expected = torch.zeros(batch, queries, heads, value.shape[-1], dtype=torch.float64)
    for b in range(batch):
        for q in range(queries):
            for h in range(heads):
                first = 0
                for i, (height, width) in enumerate(SHAPES):
                    level = value[b, first : first + height * width, h].view(height, width, -1)
                    first += height * width
                    for p in range(points):
                        x, y = (locations[b, q, h, i, p] * torch.tensor([width, height])).tolist()
                        sample = bilinear(level, x - 0.5, y - 0.5)
                        expected[b, q, h] += weights[b, q, h, i, p] * sample
    out = multi_scale_deformable_attention(value, SHAPES, locations, weights)
    torch.testing.assert_close(out, expected.flatten(2))


def test_gradients_equal_finite_differences(path: str) -> None:
    value, shapes, locations, weights = make_inputs(dim=3)
    leaves = [x.requires_grad_() for x in (value, locations, weights)]

    def attend(v, x, w):
        return multi_scale_deformable_attention(v, shapes, x, w)

    assert torch.autograd.gradcheck(attend, leaves)


def run(path: str, inputs: list, monkeypatch) -> list[torch.Tensor]:
    """Output and the gradients of value, locations and weights."""
    monkeypatch.setenv("DETREX_ATTENTION", path)
    value, shapes, locations, weights = inputs
    leaves = [x.detach().requires_grad_() for x in (value, locations, weights)]
    out = multi_scale_deformable_attention(leaves[0], shapes, *leaves[1:])
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    return [out, *torch.autograd.grad(out, leaves, grad)]


@pytest.mark.skipif(native.why_unavailable(torch.float32) is not None, reason="no C kernel")
@pytest.mark.parametrize("threads", [1, 5])  # 5: more than there are heads
@pytest.mark.parametrize(
    "sizes",
    [
        dict(dim=16, queries=40, points=4),
        dict(dim=32, heads=8, queries=33),
        dict(dim=64, heads=1),
        dict(dim=20, points=3),
        dict(dim=1, heads=3, points=1),
        dict(queries=0),
        dict(batch=0),
        dict(dim=32, dtype=torch.float32),
    ],
    ids=str,
)
def test_the_c_kernel_equals_plain_pytorch(sizes: dict, threads: int, monkeypatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        inputs = make_inputs(**sizes)
        expected, found = (run(path, inputs, monkeypatch) for path in ("pytorch", "c"))
    finally:
        torch.set_num_threads(before)
    tolerance = dict(rtol=1e-4, atol=1e-4) if inputs[0].dtype == torch.float32 else {}
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def test_inputs_need_not_be_contiguous(path: str, monkeypatch) -> None:
    inputs = make_inputs()
    value, shapes, locations, weights = inputs
    shuffled = [
        value.transpose(1, 2).contiguous().transpose(1, 2),
        shapes,
        locations.flip(1).contiguous().flip(1).transpose(0, 1).contiguous().transpose(0, 1),
        weights[..., None].expand(*weights.shape, 2)[..., 0],
    ]
    assert not shuffled[0].is_contiguous() and not shuffled[2].is_contiguous()
    for a, b in zip(run(path, shuffled, monkeypatch), run(path, inputs, monkeypatch), strict=True):
        torch.testing.assert_close(a, b)


def test_undefined_and_huge_places_read_and_change_nothing(monkeypatch) -> None:
    if native.why_unavailable(torch.float64):
        pytest.skip(native.why_unavailable(torch.float64))
    value, shapes, locations, weights = make_inputs()
    locations[:, 0, ..., 0] = math.nan
    locations[:, 1] = 1e30
    locations[:, 2] = -math.inf
    out, *grads = run("c", [value, shapes, locations, weights], monkeypatch)
    assert not out.any() and not any(grad.any() for grad in grads)


def test_half_precision_values_are_summed_in_fp32(path: str) -> None:
    value, shapes, locations, weights = make_inputs(dtype=torch.float32, dim=16)
    half = value.bfloat16()
    out = multi_scale_deformable_attention(half, shapes, locations, weights)
    exact = multi_scale_deformable_attention(half.float(), shapes, locations, weights)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, exact.bfloat16())


def test_compiles_without_a_graph_break(path: str) -> None:
    value, shapes, locations, weights = make_inputs(dtype=torch.float32)
    leaves = [x.requires_grad_() for x in (value, locations, weights)]

    def total(v, x, w):
        return multi_scale_deformable_attention(v, shapes, x, w).square().sum()

    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(total(*leaves), leaves)
    for a, b in zip(torch.autograd.grad(compiled(*leaves), leaves), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_exports(path: str) -> None:
    attention = MultiScaleDeformableAttention(16, 2, 2, 2, dropout=0.0, batch_first=True)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, query, value, points):
            return self.attention(
                query, value=value, reference_points=points, spatial_shapes=SHAPES
            )

    inputs = torch.randn(1, 7, 16), torch.randn(1, TOKENS, 16), torch.rand(1, 7, 2, 2)
    exported = torch.export.export(Model(), inputs).module()
    torch.testing.assert_close(exported(*inputs), Model()(*inputs))


@pytest.mark.parametrize("argument", range(4))
def test_sizes_that_do_not_fit_are_refused(argument: int, path: str) -> None:
    inputs = make_inputs()
    wrong = [make_inputs(heads=3)[0], [(4, 5), (3, 3)], inputs[2][..., :1, :], inputs[3][:1]]
    inputs[argument] = wrong[argument]
    with pytest.raises(ValueError, match="do not fit together"):
        multi_scale_deformable_attention(*inputs)


def test_which_path_runs_is_logged_once(path: str, caplog) -> None:
    from detrex.layers.ms_deform_attn import function

    function._choose_path.cache_clear()
    with caplog.at_level(logging.INFO):
        assert attention_path("cpu", torch.float32) == path
        attention_path("cpu", torch.float32)
    name = {"pytorch": "plain PyTorch", "c": "the C kernel"}[path]
    assert [r.getMessage() for r in caplog.records] == [f"deformable attention on cpu: {name}"]


@pytest.mark.parametrize(
    ("wanted", "device", "message"),
    [
        ("cuda", "cpu", "DETREX_ATTENTION=cuda: not one of auto, pytorch, c, triton"),
        ("c", "cuda", "the C kernel runs on the CPU, the tensors are on cuda"),
        ("triton", "cpu", "Triton"),
    ],
)
def test_a_path_that_cannot_run_is_refused(wanted, device, message, monkeypatch) -> None:
    monkeypatch.setenv("DETREX_ATTENTION", wanted)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(InputError, match=message):
        attention_path(device, torch.float32)


@pytest.mark.parametrize("size", [2, 4])
def test_padding_does_not_reach_the_output(size: int, path: str) -> None:
    torch.manual_seed(0)
    attention = MultiScaleDeformableAttention(16, 2, 2, 2, dropout=0.0, batch_first=True)
    torch.nn.init.normal_(attention.sampling_offsets.weight, std=0.5)
    value = torch.randn(1, 26, 16)
    inputs = dict(
        query=torch.randn(1, 7, 16),
        reference_points=torch.rand(1, 7, 2, size),
        spatial_shapes=torch.tensor(SHAPES),
        key_padding_mask=torch.rand(1, 26) > 0.5,
    )
    changed = value + inputs["key_padding_mask"][..., None] * torch.randn(1, 26, 16)
    assert torch.equal(attention(value=value, **inputs), attention(value=changed, **inputs))
    inputs["key_padding_mask"] = None
    assert not torch.equal(attention(value=value, **inputs), attention(value=changed, **inputs))


def test_discrete_attention_is_the_weighted_sum_of_the_pixels_it_rounds_to() -> None:
    torch.manual_seed(0)
    shapes, heads, points = [(3, 5), (2, 4)], 2, 2
    value = torch.randn(1, 23, heads, 3)
    offsets = torch.randn(1, 4, heads, 2, points, 2) * 3
    logits = torch.randn(1, 4, heads, 2, points)
    reference = torch.rand(1, 4, 2, 4)
    mask = torch.zeros(1, 23, dtype=torch.bool)
    mask[0, 14] = True
    found = discrete_attention(value, shapes, offsets, logits, reference, mask)
    for n in range(4):
        for head in range(heads):
            weights = logits[0, n, head].flatten().softmax(0).view(2, points)
            expected = torch.zeros(3)
            for level, (h, w) in enumerate(shapes):
                for point in range(points):
                    cx, cy, width, height = reference[0, n, level].tolist()
                    dx, dy = offsets[0, n, head, level, point].tolist()
                    x = min(max(int((cx + dx / points * width / 2) * w + 0.5), 0), w - 1)
                    y = min(max(int((cy + dy / points * height / 2) * h + 0.5), 0), h - 1)
                    pixel = 15 * level + y * w + x
                    if pixel != 14:
                        expected += weights[level, point] * value[0, pixel, head]
            torch.testing.assert_close(found[0, n].view(heads, 3)[head], expected)


START = [(38, 57), (19, 29), (10, 15), (5, 8)]


def gradients_at_the_start(attend, ratios: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a fresh encoder attention, each token at its pixel: every sample lies on a pixel line.
    ratios (L, 2): unpadded share of width and height."""
    torch.manual_seed(0)
    attention = MultiScaleDeformableAttention(32, 8, 4, 4, dropout=0.0, batch_first=True)
    attention.attend = attend or attention.attend
    centres = []
    for (height, width), ratio in zip(START, ratios, strict=True):
        x, y = (torch.arange(0.5, n) / (r * n) for n, r in ((width, ratio[0]), (height, ratio[1])))
        centres.append(torch.cartesian_prod(y, x).flip(-1))
    points = torch.cat(centres)[None, :, None] * ratios
    query = torch.randn(1, points.shape[1], 32)
    out = attention(query, reference_points=points, spatial_shapes=START)
    out.backward(torch.randn(out.shape))
    return {name: parameter.grad for name, parameter in attention.named_parameters()}


@pytest.mark.parametrize("padded", [False, True])
def test_first_gradients_equal_those_of_grid_sample(padded: bool, path: str) -> None:
    """The slope of a bilinear sample jumps at pixel lines, so rounding decides its side."""
    ratios = torch.rand(4, 2) / 2 + 0.5 if padded else torch.ones(4, 2)
    expected = gradients_at_the_start(
        lambda value, shapes, offsets, logits, reference, mask: attention_from_logits(
            value, shapes, offsets, logits, reference
        ),
        ratios,
    )
    for name, gradient in gradients_at_the_start(None, ratios).items():
        error = (gradient - expected[name]).norm() / expected[name].norm()
        assert error <= 1e-5, name
