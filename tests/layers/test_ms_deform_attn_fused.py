"""Deformable attention from raw offsets and logits: every path against the plain formula."""

from __future__ import annotations

import pytest
import torch

from detrex.layers import MultiScaleDeformableAttention, multi_scale_deformable_attention
from detrex.layers.ms_deform_attn import deformable_attention, native
from detrex.layers.ms_deform_attn.plain import plain_attention

SHAPES = [(4, 5), (2, 3), (1, 1)]
TOKENS = sum(h * w for h, w in SHAPES)
needs_kernel = pytest.mark.skipif(
    native.why_unavailable(torch.float32) is not None, reason="no C kernel"
)


@pytest.fixture(params=["pytorch", "c"])
def path(request, monkeypatch) -> str:
    if request.param == "c" and native.why_unavailable(torch.float32):
        pytest.skip(native.why_unavailable(torch.float32))
    monkeypatch.setenv("DETREX_ATTENTION", request.param)
    return request.param


def make_inputs(box: int | None, batch=2, queries=3, heads=2, dim=4, points=2) -> dict:
    """In fp64; a few places lie outside the level."""
    options = dict(generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    samples = (batch, queries, heads, len(SHAPES), points)
    return dict(
        value=torch.randn(batch, TOKENS, heads, dim, **options),
        offsets=torch.randn(*samples, 2, **options),
        logits=torch.randn(samples, **options),
        reference=torch.rand(batch, queries, len(SHAPES), box, **options) if box else None,
    )


def make_mask(batch: int = 2) -> torch.Tensor:
    """Also one image that is all padding."""
    mask = torch.rand(batch, TOKENS, generator=torch.Generator().manual_seed(1)) > 0.7
    mask[-1] = True
    return mask


def attend(inputs: dict, mask=None) -> torch.Tensor:
    return deformable_attention(**inputs, shapes=SHAPES, mask=mask)


def gradients(function, inputs: dict) -> list[torch.Tensor]:
    """Output and the gradients of all inputs, of a fixed direction."""
    leaves = {k: v.detach().requires_grad_() for k, v in inputs.items() if v is not None}
    out = function({**inputs, **leaves})
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out.dtype)
    return [out, *torch.autograd.grad(out, list(leaves.values()), grad)]


@pytest.mark.parametrize("box", [2, 4])
def test_places_and_weights_follow_the_paper(box: int, path: str) -> None:
    inputs = make_inputs(box)
    offsets, reference, mask = inputs["offsets"], inputs["reference"], make_mask()
    locations = torch.empty_like(offsets)
    for i, (height, width) in enumerate(SHAPES):
        for axis, size in enumerate((width, height)):
            center = reference[:, :, None, i, None, axis]
            step = 1 / size if box == 2 else reference[:, :, None, i, None, 2 + axis] / 2 / 2
            locations[:, :, :, i, :, axis] = center + offsets[:, :, :, i, :, axis] * step
    power = inputs["logits"].exp()
    weights = power / power.sum((-1, -2), keepdim=True)
    value = torch.where(mask[..., None, None], 0, inputs["value"])
    expected = multi_scale_deformable_attention(value, SHAPES, locations, weights)
    assert expected[0].any() and not expected[1].any()
    torch.testing.assert_close(attend(inputs, mask), expected)


@pytest.mark.parametrize("box", [2, 4])
def test_gradients_equal_finite_differences(box: int, path: str) -> None:
    inputs, mask = make_inputs(box, dim=3), make_mask()
    leaves = [x.requires_grad_() for x in inputs.values()]
    assert torch.autograd.gradcheck(
        lambda *tensors: attend(dict(zip(inputs, tensors, strict=True)), mask), leaves
    )


@needs_kernel
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("box", [None, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", [dict(dim=32, queries=9, points=4), dict(queries=0)], ids=str)
def test_the_c_kernel_equals_plain_pytorch(sizes, dtype, box, masked, monkeypatch) -> None:
    """In bf16 too: both read the rounded inputs, sum in fp32 and round once."""
    monkeypatch.setenv("DETREX_ATTENTION", "c")
    inputs, mask = make_inputs(box, **sizes), make_mask() if masked else None
    for name in ("value", "offsets", "logits"):
        inputs[name] = inputs[name].to(dtype)
    inputs["reference"] = inputs["reference"].float() if box else None
    expected = gradients(lambda x: plain_attention(**x, shapes=SHAPES, mask=mask), inputs)
    found = gradients(lambda x: attend(x, mask), inputs)
    tolerance = dict(rtol=1e-2, atol=1e-3) if dtype == torch.bfloat16 else {}
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, **(tolerance if a.dtype == dtype else {}))


@needs_kernel
def test_bf16_rounds_to_nearest_even_and_keeps_nan(monkeypatch) -> None:
    """Images of one pixel, read with a weight: one product, rounded as PyTorch rounds it."""
    monkeypatch.setenv("DETREX_ATTENTION", "c")
    value = torch.randn(500, generator=torch.Generator().manual_seed(0)).bfloat16()
    value[:5] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e-40, 3e38])
    value, weight = value.view(-1, 1, 1, 1), torch.full((500, 1, 1, 1, 1), 1.0078125).bfloat16()
    places = torch.full((500, 1, 1, 1, 1, 2), 0.5).bfloat16()
    out = deformable_attention(value, [(1, 1)], places, weight, None)
    expected = (value.float() * weight[0, 0, 0].float()).bfloat16().view(500, 1, 1)
    torch.testing.assert_close(out, expected, rtol=0, atol=0, equal_nan=True)


@needs_kernel
def test_results_do_not_depend_on_threads(monkeypatch) -> None:
    monkeypatch.setenv("DETREX_ATTENTION", "c")
    inputs, before = make_inputs(4, queries=50, heads=3, dim=8), torch.get_num_threads()
    inputs = {name: x.float() for name, x in inputs.items()}
    results = []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            results.append(gradients(lambda x: attend(x, make_mask()), inputs))
    finally:
        torch.set_num_threads(before)
    for found in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found, results[0], strict=True))


@needs_kernel
def test_inputs_need_not_be_contiguous(monkeypatch) -> None:
    monkeypatch.setenv("DETREX_ATTENTION", "c")
    inputs, mask = make_inputs(4), make_mask()
    strided = {k: torch.stack([x, x + 1], -1)[..., 0] for k, x in inputs.items()}
    assert not any(x.is_contiguous() for x in strided.values())
    expected = gradients(lambda x: attend(x, mask), inputs)
    for a, b in zip(gradients(lambda x: attend(x, mask), strided), expected, strict=True):
        torch.testing.assert_close(a, b)


@needs_kernel
@pytest.mark.parametrize("moving", [False, True])
def test_the_operator_is_registered_as_pytorch_expects(moving: bool) -> None:
    inputs = make_inputs(4)
    leaves = [inputs[name].requires_grad_() for name in ("value", "offsets", "logits")]
    flat = [side for shape in SHAPES for side in shape]
    reference = inputs["reference"].requires_grad_(moving)
    operator = torch.ops.detrex.deformable_attention_c
    torch.library.opcheck(operator, (leaves[0], flat, *leaves[1:], reference, make_mask()))


def test_sizes_that_do_not_fit_are_refused(path: str) -> None:
    inputs = make_inputs(4)
    wrong = dict(reference=inputs["reference"][..., :3], logits=inputs["logits"][..., :1])
    for name, tensor in wrong.items():
        with pytest.raises(ValueError, match=f"{name} .* do not fit together"):
            attend({**inputs, name: tensor})
    for mask in (make_mask()[:, 1:], make_mask().float()):
        with pytest.raises(ValueError, match="mask .* do not fit together"):
            attend(inputs, mask)


def test_coordinates_stay_fp32_under_autocast(path: str) -> None:
    """On a level 512 pixels wide a pixel off reads a one: 8 bits would not hold the place."""
    attention = MultiScaleDeformableAttention(4, 1, 1, 1, dropout=0.0, batch_first=True)
    with torch.no_grad():
        for linear in (attention.value_proj, attention.output_proj):
            linear.weight.copy_(torch.eye(4))
        attention.sampling_offsets.bias.zero_()
    value = torch.zeros(1, 512, 4)
    value[..., 0] = torch.arange(512.0) % 2
    places = (torch.arange(0, 512, 2.0) + 0.5) / 512
    points = torch.stack([places, torch.full_like(places, 0.5)], -1)[None, :, None]
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(
            torch.zeros(1, 256, 4), value=value, identity=torch.zeros(1, 256, 4),
            reference_points=points, spatial_shapes=[(1, 512)],
        )  # fmt: skip
    assert out.dtype == torch.float32 and out.abs().max() < 1e-3


def test_the_module_compiles_without_a_graph_break(path: str) -> None:
    torch.manual_seed(0)
    attention = MultiScaleDeformableAttention(8, 2, 3, 2, dropout=0.0, batch_first=True)
    torch.nn.init.normal_(attention.attention_weights.weight)
    value, mask = torch.randn(2, TOKENS, 8), make_mask()
    points = torch.rand(2, 5, 3, 4, requires_grad=True)
    inputs = dict(value=value, key_padding_mask=mask, spatial_shapes=SHAPES)
    query = torch.randn(2, 5, 8, requires_grad=True)
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    results = []
    for module in (attention, compiled):
        out = module(query, reference_points=points, **inputs)
        results.append([out, *torch.autograd.grad(out.square().sum(), (query, points))])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
