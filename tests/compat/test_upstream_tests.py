"""What the tests of detrex's own repository check, in our words and with values.

Its tests of attention, feed-forward nets, transformer layers, position embeddings, losses,
deformable attention and the torchvision backbone.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter

from detrex.layers import (
    FFN,
    MLP,
    BaseTransformerLayer,
    ConditionalCrossAttention,
    ConditionalSelfAttention,
    MultiheadAttention,
    PositionEmbeddingLearned,
    PositionEmbeddingSine,
    TransformerLayerSequence,
    generalized_box_iou,
)
from detrex.layers.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)
from detrex.modeling.backbone import TorchvisionBackbone
from detrex.modeling.losses import CrossEntropyLoss, FocalLoss, GIoULoss, L1Loss

CLOSE = dict(rtol=1e-5, atol=1e-5)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# Feed-forward nets.


def test_ffn_adds_its_input_or_another_identity() -> None:
    ffn = FFN(ffn_drop=0.0)
    x, other = torch.rand(2, 20, 256), torch.rand(2, 20, 256)
    inner = ffn.layers[1](F.relu(ffn.layers[0][0](x)))
    torch.testing.assert_close(ffn(x), x + inner, **CLOSE)
    torch.testing.assert_close(ffn(x, identity=other), other + inner, **CLOSE)
    torch.testing.assert_close(ffn(x.transpose(0, 1)), ffn(x).transpose(0, 1), **CLOSE)


def test_ffn_needs_two_layers() -> None:
    with pytest.raises(AssertionError):
        FFN(num_fcs=1)


def test_ffn_without_identity_is_an_mlp() -> None:
    mlp = MLP(input_dim=256, hidden_dim=256, output_dim=4, num_layers=3)
    ffn = FFN(256, 256, output_dim=4, num_fcs=3, add_identity=False)
    for ours, theirs in zip([*(part[0] for part in ffn.layers[:2]), ffn.layers[2]], mlp.layers):  # noqa: B905
        ours.weight, ours.bias = theirs.weight, theirs.bias
    x = torch.randn(16, 256)
    torch.testing.assert_close(ffn(x), mlp(x), **CLOSE)


# Attention and transformer layers.


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q k / sqrt(d)) v of each head; (N, B, C), (S, B, C), (S, B, C)."""
    q, k, v = (x.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for x in (q, k, v))
    weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
    return (weights @ v).permute(2, 0, 1, 3).flatten(2)


@pytest.mark.parametrize("batch_first", [False, True])
def test_multihead_attention_is_pytorchs_with_positions_and_identity(batch_first: bool) -> None:
    ours = MultiheadAttention(32, 4, batch_first=batch_first)
    plain = nn.MultiheadAttention(32, 4, batch_first=batch_first)
    plain.load_state_dict({k.removeprefix("attn."): v for k, v in ours.state_dict().items()})
    query, place = torch.randn(3, 5, 32), torch.randn(3, 5, 32)
    where = query + place
    expected = query + plain(where, where, query)[0]
    torch.testing.assert_close(ours(query, query_pos=place), expected, **CLOSE)
    memory = torch.randn(3, 7, 32) if batch_first else torch.randn(7, 5, 32)
    key_place = torch.randn_like(memory)
    expected = query + plain(where, memory + key_place, memory)[0]
    found = ours(query, memory, memory, query_pos=place, key_pos=key_place)
    torch.testing.assert_close(found, expected, **CLOSE)


def test_conditional_self_attention() -> None:
    """Content and position are projected apart and added; the identity is added to the output."""
    layer = ConditionalSelfAttention(embed_dim=32, num_heads=4)
    x, place = torch.randn(6, 2, 32), torch.randn(6, 2, 32)
    q = layer.query_content_proj(x) + layer.query_pos_proj(place)
    k = layer.key_content_proj(x) + layer.key_pos_proj(place)
    expected = x + layer.out_proj(attention(q, k, layer.value_proj(x), 4))
    found = layer(query=x, key=x, value=x, query_pos=place, key_pos=place)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("first", [True, False])
def test_conditional_cross_attention(first: bool) -> None:
    """Each head sees content beside the sine embedding of the place; the first layer adds the
    position to the content too."""
    layer, heads = ConditionalCrossAttention(embed_dim=32, num_heads=4), 4
    x, memory = torch.randn(6, 2, 32), torch.randn(7, 2, 32)
    place, sine, key_place = torch.randn(6, 2, 32), torch.randn(6, 2, 32), torch.randn(7, 2, 32)
    q, k = layer.query_content_proj(x), layer.key_content_proj(memory)
    key_position = layer.key_pos_proj(key_place)
    if first:
        q, k = q + layer.query_pos_proj(place), k + key_position
    pairs = [(q, layer.query_pos_sine_proj(sine)), (k, key_position)]
    q, k = (
        torch.cat([x.unflatten(-1, (heads, -1)) for x in pair], -1).flatten(2) for pair in pairs
    )
    expected = x + layer.out_proj(attention(q, k, layer.value_proj(memory), heads))
    found = layer(
        x,
        memory,
        memory,
        query_pos=place,
        key_pos=key_place,
        query_sine_embed=sine,
        is_first_layer=first,
    )
    torch.testing.assert_close(found, expected, **CLOSE)


def layer_of(attentions: list[nn.Module] | nn.Module, order: tuple[str, ...]) -> nn.Module:
    ffn, norm = FFN(256, 1024, num_fcs=2, activation=nn.ReLU(inplace=True)), nn.LayerNorm(256)
    return BaseTransformerLayer(attn=attentions, ffn=ffn, norm=norm, operation_order=order)


def test_a_transformer_layer_runs_its_modules_in_their_order() -> None:
    layer = layer_of(
        MultiheadAttention(256, 8, batch_first=True), ("self_attn", "norm", "ffn", "norm")
    )
    assert layer.attentions[0].batch_first is True
    assert layer.ffns[0].feedforward_dim == 1024
    x = torch.rand(2, 10, 256)
    expected = layer.norms[1](layer.ffns[0](layer.norms[0](layer.attentions[0](x))))
    torch.testing.assert_close(layer(x), expected, **CLOSE)


def test_a_sequence_copies_one_layer_and_counts_several() -> None:
    attentions = [MultiheadAttention(256, 8, batch_first=True) for _ in range(2)]
    order = ("self_attn", "norm", "cross_attn", "norm", "ffn", "norm")
    layer = layer_of(attentions, order)
    sequence = TransformerLayerSequence(transformer_layers=layer, num_layers=6)
    assert sequence.num_layers == len(sequence.layers) == 6
    assert len({id(part) for part in sequence.layers}) == 6
    with pytest.raises(AssertionError):
        TransformerLayerSequence(transformer_layers=[layer], num_layers=6)


# Position embeddings.


def sine_at(row: float, column: float, feats: int) -> Tensor:
    """(2 * feats,): of each frequency the sine and the cosine, rows first."""
    values = []
    for place in (row, column):
        for i in range(feats):
            angle = place / 10000 ** (2 * (i // 2) / feats)
            values.append(math.cos(angle) if i % 2 else math.sin(angle))
    return torch.tensor(values)


@pytest.mark.parametrize("offset", [0.0, -0.5])  # DETR and DAB-DETR; Deformable DETR
@pytest.mark.parametrize("normalize", [False, True])
def test_sine_embedding(normalize: bool, offset: float) -> None:
    embed = PositionEmbeddingSine(16, offset=offset, normalize=normalize)
    assert embed.normalize is normalize
    mask = torch.zeros(2, 10, 6, dtype=torch.bool)
    mask[1, 8:], mask[1, :, 5:] = True, True
    out = embed(mask)
    assert out.shape == (2, 32, 10, 6)
    for image, (height, width) in enumerate([(10, 6), (8, 5)]):
        for row, column in [(0, 0), (2, 3), (7, 4)]:
            y, x = row + 1.0, column + 1.0
            if normalize:
                y, x = (
                    (p + offset) / (n + 1e-6) * 2 * math.pi for p, n in ((y, height), (x, width))
                )
            torch.testing.assert_close(out[image, :, row, column], sine_at(y, x, 16), **CLOSE)


def test_sine_embedding_needs_a_number_as_scale() -> None:
    with pytest.raises(AssertionError):
        PositionEmbeddingSine(16, scale=(3.0,), normalize=True)


def test_sine_embedding_takes_masks_of_integers() -> None:
    """Upstream's masks may be 0 and 1; its ``~`` makes -1 and -2 of them."""
    mask = (torch.rand(2, 10, 6) > 0.5).to(torch.int)
    assert PositionEmbeddingSine(16)(mask).shape == (2, 32, 10, 6)
    assert PositionEmbeddingSine(16, normalize=True)(mask).shape == (2, 32, 10, 6)


def test_learned_embedding() -> None:
    embed = PositionEmbeddingLearned(16, row_num_embed=10, col_num_embed=12)
    assert embed.row_embed.weight.shape == (10, 16) and embed.col_embed.weight.shape == (12, 16)
    assert 0 <= embed.row_embed.weight.min() and embed.col_embed.weight.max() < 1
    out = embed(torch.rand(2, 10, 6) > 0.5)
    assert out.shape == (2, 32, 10, 6)
    for row, column in [(0, 0), (9, 5), (4, 2)]:
        expected = torch.cat([embed.col_embed.weight[column], embed.row_embed.weight[row]])
        assert torch.equal(out[1, :, row, column], expected)


# Losses.


def test_focal_loss() -> None:
    preds = torch.randn(2, 3)
    loss = FocalLoss(alpha=0.25, gamma=2.0, reduction="mean", loss_weight=2.0)
    p = preds.sigmoid()
    every_class = (0.25 * (1 - p) ** 2 * -p.log()).sum() / 3 * 2
    torch.testing.assert_close(loss(preds, torch.ones(2, 3), avg_factor=3), every_class)
    labels = torch.tensor([1, 3])  # the second has no class
    one_hot = F.one_hot(labels, 4)[:, :3].float()
    right = torch.where(one_hot > 0, p, 1 - p)
    terms = torch.where(one_hot > 0, 0.25, 0.75) * (1 - right) ** 2 * -right.log()
    torch.testing.assert_close(loss(preds, labels, avg_factor=3), terms.sum() / 3 * 2)


def test_cross_entropy_loss() -> None:
    preds, targets = torch.randn(3, 81), torch.tensor([4, 0, 79])
    weight = torch.ones(81)
    weight[-1] = 0.1
    found = CrossEntropyLoss(reduction="mean", loss_weight=2.0)(preds, targets, class_weight=weight)
    torch.testing.assert_close(found, F.cross_entropy(preds, targets, weight) * 2)
    ignoring = CrossEntropyLoss(ignore_index=0, avg_non_ignore=True)
    torch.testing.assert_close(
        ignoring(preds, targets), F.cross_entropy(preds, targets, ignore_index=0)
    )


BOXES = torch.tensor([[-1.0, -1, 1, 1], [-1, -1, 1, 1]])
TARGETS = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]])


def test_l1_loss() -> None:
    found = L1Loss(reduction="mean", loss_weight=2.0)(BOXES, TARGETS, avg_factor=2)
    assert found.item() == pytest.approx(4.0)  # each box is off by 1 twice


def test_giou_loss() -> None:
    found = GIoULoss(eps=1e-6, reduction="mean", loss_weight=2.0)(BOXES, TARGETS, avg_factor=2)
    expected = (1 - generalized_box_iou(BOXES, TARGETS).diag()).sum() / 2 * 2
    torch.testing.assert_close(found, expected)
    assert found.item() == pytest.approx(1.5, abs=1e-5)  # a quarter of each box, no rest of a hull


# Deformable attention.


def deformable_inputs(channels: int) -> list:
    shapes = torch.tensor([(6, 4), (3, 2)])
    weights = torch.rand(1, 2, 2, 2, 2, dtype=torch.float64) + 1e-5
    return [
        torch.rand(1, 30, 2, channels, dtype=torch.float64) * 0.01,
        shapes,
        torch.tensor([0, 24]),
        torch.rand(1, 2, 2, 2, 2, 2, dtype=torch.float64),
        weights / weights.sum((-1, -2), keepdim=True),
        2,
    ]


def test_deformable_attention_is_the_same_under_both_names() -> None:
    value, shapes, start, places, weights, step = deformable_inputs(2)
    found = MultiScaleDeformableAttnFunction.apply(value, shapes, start, places, weights, step)
    expected = multi_scale_deformable_attn_pytorch(value, shapes, places, weights)
    assert torch.equal(found, expected) and found.shape == (1, 2, 4)


@pytest.mark.parametrize("channels", [30, 32, 71])
def test_gradients_of_deformable_attention(channels: int) -> None:
    """Along random directions: every entry would take minutes."""
    value, shapes, start, places, weights, step = deformable_inputs(channels)
    leaves = [x.requires_grad_() for x in (value, places, weights)]

    def attend(value, places, weights):
        return MultiScaleDeformableAttnFunction.apply(value, shapes, start, places, weights, step)

    assert torch.autograd.gradcheck(attend, leaves, fast_mode=True)


# Backbones.


def test_torchvision_backbone_gives_what_the_model_gives_inside() -> None:
    nodes = {f"layer{i}": f"{i - 1}" for i in (1, 2, 3, 4)}
    backbone = TorchvisionBackbone(model_name="resnet18", return_nodes=nodes).eval()
    model = torchvision.models.resnet18().eval()
    model.load_state_dict(backbone.model.state_dict())
    x = torch.randn(1, 3, 64, 64)
    expected = IntermediateLayerGetter(model, return_layers=nodes)(x)
    found = backbone(x)
    assert found.keys() == expected.keys()
    for name, feature in expected.items():
        torch.testing.assert_close(found[name], feature)
    assert set(TorchvisionBackbone("resnet18")(x)) == {"res2", "res3", "res4", "res5"}
