"""Self-attention by rows of query groups equals attention under the groups' (N, N) mask."""

from __future__ import annotations

import random

import pytest
import torch

from detrex.layers import (
    FFN,
    BaseTransformerLayer,
    ConditionalSelfAttention,
    MultiheadAttention,
)
from detrex.modeling.queries import QueryGroup, attention_rows, isolation_mask, query_count

CPU = torch.device("cpu")
HYBRID = (QueryGroup(size=4), QueryGroup("_one2many", size=6))
GROUP_DETR = (QueryGroup(size=12, blocks=3),)
DENOISING = (QueryGroup(size=5), QueryGroup("_dn", size=6, blocks=3, sees=("",)))


def random_groups(seed: int) -> tuple[QueryGroup, ...]:
    """Up to four groups of up to three blocks, each seeing some of the others."""
    draw = random.Random(seed)
    names = ["", "_a", "_b", "_dn"][: draw.randint(1, 4)]
    groups = []
    for name in names:
        blocks = draw.randint(1, 3)
        sees = tuple(other for other in names if draw.random() < 0.3)
        groups.append(QueryGroup(name, blocks * draw.randint(1, 4), blocks, sees))
    return tuple(groups)


def run(module, x, place, mask) -> tuple[torch.Tensor, ...]:
    """The output and the gradients of inputs and parameters."""
    x, place = x.clone().requires_grad_(), place.clone().requires_grad_()
    out = module(x, query_pos=place, attn_mask=mask)
    grads = torch.autograd.grad((out * out.detach().sin()).sum(), [x, place, *module.parameters()])
    return out, *grads


@pytest.mark.parametrize("kind", ["fused", "stepwise", "conditional", "sequence_first"])
@pytest.mark.parametrize(
    "groups",
    [HYBRID, GROUP_DETR, DENOISING, (*HYBRID, DENOISING[1]), *map(random_groups, range(6))],
)
def test_rows_equal_the_mask(groups: tuple[QueryGroup, ...], kind: str) -> None:
    torch.manual_seed(0)
    module = {
        "fused": lambda: MultiheadAttention(16, 4, batch_first=True),
        "stepwise": lambda: MultiheadAttention(16, 4, batch_first=True, fused=False),
        "conditional": lambda: ConditionalSelfAttention(16, 4, batch_first=True),
        "sequence_first": lambda: MultiheadAttention(16, 4),
    }[kind]()
    x, place = torch.randn(2, 2, query_count(groups), 16)
    if kind == "sequence_first":
        x, place = x.transpose(0, 1), place.transpose(0, 1)
    masked = run(module, x, place, isolation_mask(groups, CPU))
    for found, expected in zip(
        run(module, x, place, attention_rows(groups, CPU)), masked, strict=True
    ):
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_groups_blind_to_others_need_no_mask_and_empty_ones_no_rows() -> None:
    assert [(r.size, r.blocks, r.mask) for r in attention_rows(HYBRID, CPU)] == [
        (4, 1, None),
        (6, 1, None),
    ]
    empty = QueryGroup("_dn", size=0, blocks=3, sees=("",), assign=())
    assert [r.size for r in attention_rows((HYBRID[0], empty), CPU)] == [4]


def test_attention_dropout_acts_on_rows_in_training_only() -> None:
    module = MultiheadAttention(16, 4, attn_drop=0.5, batch_first=True)
    x, rows = torch.randn(2, 10, 16), attention_rows(HYBRID, CPU)
    assert not torch.equal(module.train()(x, attn_mask=rows), module(x, attn_mask=rows))
    assert torch.equal(module.eval()(x, attn_mask=rows), module(x, attn_mask=rows))


@pytest.mark.parametrize("kind", [MultiheadAttention, ConditionalSelfAttention])
@pytest.mark.parametrize("name", ["key", "key_pos", "key_padding_mask"])
def test_rows_refuse_what_they_would_ignore(kind, name: str) -> None:
    module, (x, place, other) = kind(16, 4, batch_first=True), torch.randn(3, 2, 10, 16)
    given = {"key": other, "key_pos": other, "key_padding_mask": torch.zeros(2, 10).bool()}
    with pytest.raises(ValueError, match="Rows is for self-attention without padding"):
        module(x, query_pos=place, attn_mask=attention_rows(HYBRID, CPU), **{name: given[name]})


@pytest.mark.parametrize("shape", [{"bias": False}, {"kdim": 16, "vdim": 8}])
def test_rows_refuse_an_attention_whose_weights_are_not_in_one_piece(shape: dict) -> None:
    module, x = MultiheadAttention(16, 4, batch_first=True, **shape), torch.randn(2, 10, 16)
    with pytest.raises(ValueError, match="Rows needs bias=True and neither kdim nor vdim"):
        module(x, attn_mask=attention_rows(HYBRID, CPU))


def test_a_layer_takes_upstreams_mask_as_well() -> None:
    torch.manual_seed(0)
    layer = BaseTransformerLayer(
        MultiheadAttention(16, 4, batch_first=True),
        FFN(16, 16),
        torch.nn.LayerNorm(16),
        ("self_attn", "norm", "ffn", "norm"),
    )
    x, place = torch.randn(2, 2, 10, 16)
    mask = isolation_mask(HYBRID, CPU)
    expected = layer(x, query_pos=place, attn_masks=[attention_rows(HYBRID, CPU)])
    for masks in (mask, [mask]):
        torch.testing.assert_close(layer(x, query_pos=place, attn_masks=masks), expected)
