"""What a criterion gives its caller, and pairs as upstream's projects make them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detrex.layers import (
    FFN,
    MLP,
    BaseTransformerLayer,
    GenerateDNQueries,
    TransformerLayerSequence,
)
from detrex.layers.denoising import apply_box_noise, apply_label_noise
from detrex.modeling import ChannelMapper, HungarianMatcher, SetCriterion
from detrex.modeling.criterion import TwoStageCriterion
from detrex.utils.errors import InputError
from projects.rank_detr.modeling import RankDetrCriterion
from tests.modeling.test_criterion import bce
from tests.test_drop_in import outputs_and_targets

WEIGHTS = {"loss_class": 2.0, "loss_bbox": 5.0, "loss_giou": 2.0}
KINDS = [SetCriterion, TwoStageCriterion, RankDetrCriterion]


def criterion(cls: type[SetCriterion] = SetCriterion, **options) -> SetCriterion:
    return cls(4, HungarianMatcher(2.0, 5.0, 2.0), dict(WEIGHTS), **options)


def leaves(outputs: dict) -> list[torch.Tensor]:
    layers = [outputs, *outputs["aux_outputs"]]
    return [layer[k].requires_grad_() for layer in layers for k in ("pred_logits", "pred_boxes")]


@pytest.mark.parametrize("cls", KINDS)
def test_losses_may_be_weighted_in_place(cls: type[SetCriterion]) -> None:
    crit = criterion(cls)
    gradients = []
    for in_place in (True, False):
        outputs, targets = outputs_and_targets()
        inputs = leaves(outputs)
        losses = crit(outputs, targets)
        for name in losses:
            if in_place:
                losses[name] *= 3.0
            else:
                losses[name] = losses[name] * 3.0
        sum(losses.values()).backward()
        gradients.append([x.grad for x in inputs])
    for first, second in zip(*gradients, strict=True):
        assert torch.equal(first, second)


def test_what_every_public_function_of_the_criterion_returns_may_be_changed() -> None:
    crit = criterion(TwoStageCriterion)
    outputs, targets = outputs_and_targets()
    leaves(outputs)
    indices = crit.matcher(outputs, targets)
    found = [
        crit(outputs, targets, None),
        crit.weighted(crit(outputs, targets)),
        crit.loss_labels(outputs, targets, indices, 5),
        crit.loss_boxes(outputs, targets, indices, 5.0),
        crit.compute_dn_loss(None, targets, 1, 5.0),
    ]
    for losses in found:
        values = {name: loss.item() for name, loss in losses.items()}
        for loss in losses.values():
            loss.mul_(2.0).add_(1.0)
        assert {name: (x.item() - 1) / 2 for name, x in losses.items()} == pytest.approx(values)
        if any(loss.requires_grad for loss in losses.values()):
            sum(losses.values()).backward()


def test_a_query_of_two_targets_is_of_the_last_ones_class_and_has_both_boxes() -> None:
    outputs, targets = outputs_and_targets((3, 1))
    outputs = {name: outputs[name][:2] for name in ("pred_logits", "pred_boxes")}
    targets[0]["labels"] = torch.tensor([1, 2, 2])
    # Query 4 is paired with targets of two classes, query 5 with the same target twice.
    indices = [
        (torch.tensor([4, 5, 4, 5]), torch.tensor([0, 1, 2, 1])),
        (torch.tensor([0]), torch.tensor([0])),
    ]
    classes = {(0, 4): 2, (0, 5): 2, (1, 0): targets[1]["labels"][0].item()}
    expected = 0.0
    scores = outputs["pred_logits"].sigmoid().tolist()
    for image, queries in enumerate(scores):
        for query, row in enumerate(queries):
            for cls, p in enumerate(row):
                hit = classes.get((image, query)) == cls
                weight = 0.25 * (1 - p) ** 2 if hit else 0.75 * p**2
                expected += weight * bce(p, float(hit))
    crit = criterion()
    found = crit.loss_labels(outputs, targets, indices, 2.0)["loss_class"]
    assert found.item() == pytest.approx(expected / 2.0, rel=1e-5)
    boxes = torch.cat([outputs["pred_boxes"][i, q] for i, (q, _) in enumerate(indices)])
    gt = torch.cat([targets[i]["boxes"][t] for i, (_, t) in enumerate(indices)])
    found = crit.loss_boxes(outputs, targets, indices, 0.5)["loss_bbox"]  # the caller's divisor
    assert found.item() == pytest.approx((boxes - gt).abs().sum().item() / 0.5, rel=1e-5)


def test_other_losses_are_those_that_a_subclass_knows() -> None:
    class Labels(SetCriterion):
        def get_loss(self, loss, *args, **kwargs):
            loss_map = {"labels": self.loss_labels, "boxes": self.loss_boxes}
            return loss_map[loss](*args, **kwargs)

    class Forward(SetCriterion):
        def forward(self, outputs, targets):
            return {}

    assert criterion(Forward, losses=["masks"]).losses == ["masks"]
    outputs, targets = outputs_and_targets()
    found, expected = criterion(Labels, losses=["labels", "boxes"]), criterion()
    losses = found(outputs, targets)
    for name, value in expected(outputs, targets).items():
        torch.testing.assert_close(losses[name], value)
    for error in (AssertionError, ValueError):
        with pytest.raises(error, match=r"losses are 'class' and 'boxes', got \['labels'\]"):
            criterion(losses=["labels"])
        with pytest.raises(error, match=r"get_loss\(\) knows .* got 'masks'"):
            expected.get_loss("masks", outputs, targets, [], 1.0)


def test_denoising_losses_of_upstreams_dicts() -> None:
    """DINO gives them as an argument, DN-DETR among the outputs; padding is background."""
    outputs, targets = outputs_and_targets((2, 1, 0))
    known, _ = outputs_and_targets((2, 1, 0))
    crit = criterion(TwoStageCriterion)
    meta = {"dn_num": 3, "single_padding": 2, "output_known_lbs_bboxes": known}
    losses = crit(outputs, targets, meta)
    shape = {"denoising_groups": torch.tensor(3), "max_gt_num_per_image": torch.tensor(2)}
    assert criterion()({**outputs, "denoising_output": known, **shape}, targets) == losses
    pairs = [torch.tensor([0, 1, 2, 3, 4, 5]), torch.tensor([0, 2, 4]), torch.tensor([])]
    owners = [torch.tensor([0, 1] * 3), torch.tensor([0] * 3), torch.tensor([])]
    indices = [(q.long(), t.long()) for q, t in zip(pairs, owners, strict=True)]
    for layer, suffix in ((known, "_dn"), (known["aux_outputs"][0], "_dn_0")):
        for kind in ("class", "boxes"):
            for name, value in crit.get_loss(kind, layer, targets, indices, 9.0).items():
                torch.testing.assert_close(losses[name + suffix], value)
    none = crit(outputs, targets, None)
    assert none.keys() == losses.keys() and none["loss_giou_dn_0"] == 0


def test_denoising_queries_have_as_many_labels_as_classes() -> None:
    generator = GenerateDNQueries(num_queries=3, num_classes=5, label_embed_dim=8)
    assert generator.label_encoder.num_embeddings == generator.num_classes == 5
    assert generator.label_embed_dim == 8
    mask = generator.generate_query_masks(2, "cpu")
    assert torch.equal(mask, generator([torch.zeros(2).long()], [torch.rand(2, 4)])[2])
    assert mask.shape == (13, 13) and not mask[:, 10:].any() and mask[10:, :10].all()
    for error in (AssertionError, ValueError):
        with pytest.raises(error, match="labels of 1 images, boxes of 2"):
            generator([torch.zeros(1).long()], [torch.rand(1, 4)] * 2)


def test_noise_of_zero_draws_nothing() -> None:
    labels, boxes = torch.arange(9), torch.rand(9, 4)
    torch.manual_seed(0)
    before = torch.rand(1)
    torch.manual_seed(0)
    assert apply_label_noise(labels, 0.0, 80) is labels and apply_box_noise(boxes, 0.0) is boxes
    assert torch.rand(1) == before
    assert set(apply_label_noise(labels, label_noise_prob=1.0, num_classes=1).tolist()) == {0}
    assert ((apply_box_noise(boxes, box_noise_scale=0.4) - boxes).abs() <= boxes * 0.5).any()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FFN(8, 8, num_fcs=1),
        lambda: BaseTransformerLayer(FFN(), FFN(), nn.LayerNorm(8), ("self_attn", "mix")),
        lambda: TransformerLayerSequence([MLP(2, 2, 2, 2)], num_layers=2),
        lambda: HungarianMatcher(0, 0, 0),
        lambda: HungarianMatcher(cost_class_type="hinge"),
        lambda: criterion(loss_class_type="hinge"),
    ],
)
def test_upstreams_assertions_are_caught_as_either(wrong) -> None:
    for error in (AssertionError, ValueError, InputError):
        with pytest.raises(error):
            wrong()


def test_arguments_are_attributes() -> None:
    mapper = ChannelMapper(
        {"a": type("Shape", (), {"channels": 4})}, ["a"], 16, kernel_size=1, norm_layer=None
    )
    assert (mapper.out_channels, mapper.kernel_size, mapper.num_outs) == (16, 1, 1)
    ffn = FFN(8, 32, num_fcs=3)
    assert (ffn.feedforward_dim, ffn.num_fcs, ffn.ffn_drop) == (32, 3, 0.0)
    mlp = MLP(2, 3, 4, 5)
    assert (mlp.input_dim, mlp.hidden_dim, mlp.output_dim, mlp.num_layers) == (2, 3, 4, 5)


class FirstQueries(nn.Module):
    """A matcher that needs logits only, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def forward(self, outputs, targets):
        self.seen.append((outputs["pred_logits"].shape[1], sorted(outputs)))
        numbers = [torch.arange(len(target["labels"])) for target in targets]
        return [(n, n) for n in numbers]


def test_layers_may_differ_in_their_queries_and_be_without_boxes() -> None:
    outputs, targets = outputs_and_targets()
    other = {k: v[:, :-2] for k, v in outputs["aux_outputs"][0].items()}
    outputs["aux_outputs"] = [other, outputs["aux_outputs"][0]]
    expected = {"": outputs, "_0": other, "_1": outputs["aux_outputs"][1]}
    losses, indices = criterion()(outputs, targets, return_indices=True)
    for number, suffix in enumerate(("_0", "_1", "")):
        alone = {k: expected[suffix][k] for k in ("pred_logits", "pred_boxes")}
        for name, value in criterion()(alone, targets).items():
            torch.testing.assert_close(losses[name + suffix], value)
        pairs = zip(indices[number], HungarianMatcher(2.0, 5.0, 2.0)(alone, targets), strict=True)
        assert all(torch.equal(a[0], b[0]) for a, b in pairs)

    crit = SetCriterion(4, FirstQueries(), dict(WEIGHTS), losses=["class"])
    layers = [{"pred_logits": layer["pred_logits"]} for layer in (outputs, other)]
    found = crit({**layers[0], "aux_outputs": layers[1:]}, targets)
    assert found.keys() == {"loss_class", "loss_class_0"}
    for name, layer in (("loss_class", outputs), ("loss_class_0", other)):
        pairs = FirstQueries()(layer, targets)
        count = sum(len(t["labels"]) for t in targets)
        torch.testing.assert_close(
            found[name], crit.loss_labels(layer, targets, pairs, count)["loss_class"]
        )


def test_a_matcher_gets_one_layer_and_the_last_one_first() -> None:
    outputs, targets = outputs_and_targets()
    outputs["aux_outputs"].append({k: v[:, 1:] for k, v in outputs["aux_outputs"][0].items()})
    queries, names = outputs["pred_logits"].shape[1], ["pred_boxes", "pred_logits"]
    crit = SetCriterion(4, FirstQueries(), dict(WEIGHTS))
    _, indices = crit(outputs, targets, return_indices=True)
    assert crit.matcher.seen == [(queries, names), (queries, names), (queries - 1, names)]
    assert len(indices) == 3


def test_a_loss_reads_what_it_needs() -> None:
    outputs, targets = outputs_and_targets()
    crit, indices = criterion(), FirstQueries()(outputs, targets)
    for method, needed in ((crit.loss_labels, "pred_logits"), (crit.loss_boxes, "pred_boxes")):
        expected = method(outputs, targets, indices, 2.0)
        found = method({needed: outputs[needed]}, targets, indices, 2.0)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)
    crit = criterion(loss_class_type="ia_bce_loss")  # which reads the boxes too
    alone = {"pred_logits": outputs["pred_logits"]}
    assert crit.loss_labels(alone, targets, indices, 2.0)["loss_class"].isnan()


def test_kinds_of_losses_may_be_added() -> None:
    crit = criterion()
    crit.losses.append("masks")
    assert crit.losses == ["class", "boxes", "masks"]
