"""Further passes of the decoder (DAC-DETR, Mr. DETR): what they share, and that inference has none
of them. Their numbers are compared with the released codes' in tests/parity."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.config import LazyConfig, instantiate

from detrex.inspect.analysis import flops
from detrex.layers.attention import Rows
from detrex.modeling.queries import spans
from detrex.modeling.transformer import DeformableDecoder
from projects.deformable_detr.modeling import DeformableDETR
from projects.mr_detr.modeling.layers import behind_tokens
from tests.models import ROOT, image, shrink, tiny

FILE = "configs/deformable_detr_r50_two_stage_12ep_plusplus.py"
CONFIGS = {
    "deformable": f"projects/mr_detr_deformable/{FILE}",
    "dino": f"projects/mr_detr_dino/{FILE}",
    "align": f"projects/mr_detr_align/{FILE}",
    "dac": "projects/dac_detr/configs/dac_detr_r50_12ep.py",
}
OWN = {
    "copies",
    "nms_iou",
    "dn_number",
    "label_noise_ratio",
    "box_noise_scale",
    "route_weight",
    "match_anchors",
    "mix_scores",
}
TRAINING_ONLY = ("label_enc", "_o2m", "_sep", "o2m_encoder")
BATCH = [image(64, 96, 3, seed=1), image(80, 48, 2, seed=2)]


def awake(model: torch.nn.Module) -> torch.nn.Module:
    """The model with boxes that move and attention that looks somewhere."""
    for p in model.parameters():
        if p.dim() > 1 and not p.any():
            torch.nn.init.normal_(p, std=0.05)
    return model


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("counts", [(3, 1), (2, 0), (0, 0)])
def test_every_parameter_gets_a_finite_gradient(name: str, counts: tuple[int, int]) -> None:
    model = awake(tiny(CONFIGS[name]).train())
    losses = model([image(64, 96, n, seed=n) for n in counts])
    sum(losses.values()).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    layers = model.transformer.decoder.num_layers
    sets = {"deformable": 3, "dino": 6, "align": 6, "dac": 4}[name]
    assert len(losses) == 3 * (sets * layers + (1 if name == "dac" else 2))


@pytest.mark.parametrize("name", CONFIGS)
def test_inference_costs_what_the_base_costs(name: str) -> None:
    cfg = LazyConfig.load(str(ROOT / CONFIGS[name])).model
    shrink(cfg)
    ours = awake(instantiate(copy.deepcopy(cfg))).eval()
    base = copy.deepcopy(cfg)
    for key in OWN & cfg.keys():
        base.pop(key)
    base.update(with_box_refine=True, as_two_stage=True, mixed_selection=True)
    base._target_, base.transformer.decoder._target_ = DeformableDETR, DeformableDecoder
    base = instantiate(base).eval()
    assert flops(ours, BATCH[:1]) == flops(base, BATCH[:1]) > 0
    unused = [p for key, p in ours.named_parameters() if any(part in key for part in TRAINING_ONLY)]
    used = len(ours.state_dict()) - len(base.state_dict())
    assert len(unused) == used
    with torch.no_grad():
        before = ours(BATCH)
        for p in unused:
            p.fill_(torch.nan)
        after = ours(BATCH)
    for x, y in zip(before, after, strict=True):
        x, y = x["instances"], y["instances"]
        assert torch.equal(x.scores, y.scores) and x.scores.isfinite().all() and len(x)
        assert torch.equal(x.pred_boxes.tensor, y.pred_boxes.tensor)


@pytest.mark.parametrize("name", CONFIGS)
def test_all_routes_have_the_same_denoising_queries(name: str) -> None:
    model = tiny(CONFIGS[name]).train()
    queries = model.make_queries(model.encode(model.preprocess(BATCH)), model.targets(BATCH))
    assert [route.route for route in queries.routes] == (
        ["cross"] if name == "dac" else ["o2m", "sep"]
    )
    for route in queries.routes:
        assert len(route.groups) == len(queries.groups) == (1 if name == "deformable" else 2)
        for group, other in zip(route.groups[1:], queries.groups[1:], strict=True):
            assert group.assign is other.assign and group.sees == (route.groups[0].name,)
        for span in spans(queries.groups)[1:]:
            assert torch.equal(route.content[:, span], queries.content[:, span])
            assert torch.equal(route.boxes[:, span], queries.boxes[:, span])


@torch.no_grad()
def test_the_cross_route_compares_queries_in_the_first_layer_alone() -> None:
    model = awake(tiny(CONFIGS["dac"]).train())
    memory = model.encode(model.preprocess(BATCH))
    queries = model.make_queries(memory, model.targets(BATCH))
    (route,) = queries.routes
    before = model.decode(route, memory)
    first = model.decode(queries, memory)
    assert torch.equal(before.logits[0], first.logits[0])
    assert not torch.equal(before.logits[1], first.logits[1])
    model.transformer.decoder.layers[1].attentions[0].attn.in_proj_weight.fill_(torch.nan)
    assert torch.equal(model.decode(route, memory).logits, before.logits)


@torch.no_grad()
def test_the_released_assignment_looks_at_the_boxes_of_the_first_pass() -> None:
    model = awake(tiny(CONFIGS["dac"]).train())
    memory = model.encode(model.preprocess(BATCH))
    outputs, queries = model.run(memory, model.targets(BATCH))
    cross, noised = model.route_sets(queries.routes[0], memory, outputs)
    assert torch.equal(cross.matched, outputs.boxes[:, :, :10])
    assert noised.matched is noised.boxes
    assert not torch.equal(cross.boxes[1], cross.matched[1])


@torch.no_grad()
def test_the_routes_of_mr_detr_differ_where_the_paper_says() -> None:
    """Tokens and a norm on one route, a feed-forward block on the other."""
    model = awake(tiny(CONFIGS["dino"]).train())
    memory = model.encode(model.preprocess(BATCH))
    queries = model.make_queries(memory, model.targets(BATCH))
    o2m, sep = queries.routes

    def outputs() -> list[torch.Tensor]:
        return [model.decode(q, memory).logits for q in (queries, o2m, sep)]

    before = outputs()
    layer = model.transformer.decoder.layers[0]
    attention, ffn = layer.attentions[0], layer.ffns[0]
    for changed, part in (
        (1, attention.instruction_o2m.weight),
        (1, attention.norm_o2m.bias),
        (2, ffn.layers[0]["linear"].linear_sep.weight),
        (2, ffn.layers[1].linear_sep.bias),
    ):
        saved = part.clone()
        part += 0.1
        for i, (x, y) in enumerate(zip(before, outputs(), strict=True)):
            assert torch.equal(x, y) == (i != changed), (changed, i)
        part.copy_(saved)


def test_denoising_queries_do_not_see_the_tokens() -> None:
    hidden = torch.tensor([[False, False, True], [True, False, False]])
    rows = behind_tokens((Rows(1), Rows(2, mask=hidden)), 2)
    assert rows[0] == Rows(3) and rows[1].size == 2
    assert rows[1].mask.tolist() == [[True, True, *row] for row in hidden.tolist()]
    _, row = behind_tokens((Rows(1), Rows(2, mask=torch.ones(1, 8, 2, 3))), 2)  # box relations
    assert row.mask[0, 7].tolist() == [[-torch.inf, -torch.inf, 1, 1, 1]] * 2


@torch.no_grad()
def test_nms_drops_what_a_better_detection_of_the_class_covers() -> None:
    model = tiny(CONFIGS["dac"]).eval()
    box = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.39], [0.2, 0.2, 0.1, 0.1]])
    logits = torch.full((1, 3, 5), -9.0)
    logits[0, :, 1] = torch.tensor([2.0, 3.0, 1.0])
    logits[0, 0, 2] = 0.0
    (found,) = model.select(logits, box[None], [(100, 100)])
    best = [
        (c, round(s, 3))
        for c, s in zip(found.pred_classes.tolist(), found.scores.tolist(), strict=True)
    ]
    assert best[:3] == [(1, 0.953), (1, 0.731), (2, 0.5)]
    model.nms_iou = None
    (all_pairs,) = model.select(logits, box[None], [(100, 100)])
    assert len(all_pairs) == 15 > len(found)


@torch.no_grad()
def test_scores_of_neighbouring_layers_are_mixed_at_inference() -> None:
    model = awake(tiny(CONFIGS["align"]).eval())
    outputs, _ = model.run(model.encode(model.preprocess(BATCH[:1])))
    p, q = outputs.logits.sigmoid()
    mixed = ((q**2.001 + p**1.853) / 2).sqrt()
    torch.testing.assert_close(model.scores(outputs).sigmoid(), mixed.clamp(1e-3, 1 - 1e-3))
    assert torch.equal(model.scores(outputs, 0), outputs.logits[0])
    model.mix_scores = False
    assert torch.equal(model.scores(outputs), outputs.logits[-1])
