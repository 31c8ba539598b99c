"""D-FINE's parts, criterion and transformer against its released code (Peterande/D-FINE 4a1f73a).

``d_fine.json`` has inputs' specifications, and of results either all numbers or the norm and the
product with ``recipe.signed("g", name, shape)``. ``deim`` is the same criterion of DEIM 09d35d5.
The 1e-6 in our IoU is taken away for the comparison.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import detrex.layers.box_ops
from detrex.modeling.matcher import HungarianMatcher, Matches
from detrex.modeling.predictions import Predictions
from detrex.modeling.queries import QueryGroup
from projects.d_fine.modeling import DFINECriterion
from projects.d_fine.modeling.criterion import union_of
from projects.d_fine.modeling.d_fine import EdgePredictions
from projects.d_fine.modeling.distribution import EdgeDistribution, QualityEstimate, edge_values

from . import recipe
from .kits import boxes_of, build, jitter

GOLDEN = json.loads((Path(__file__).parent / "d_fine.json").read_text())
WEIGHTS = dict(loss_class=1.0, loss_bbox=5.0, loss_giou=2.0, loss_fgl=0.15, loss_ddf=1.5)


@pytest.fixture(autouse=True)
def as_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detrex.layers.box_ops, "EPS", 0.0)
    monkeypatch.setattr(DFINECriterion, "overlap_eps", 0.0)


def signed(seed: object, name: str, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    """Float32 numbers in float64."""
    return torch.from_numpy((scale * recipe.signed(seed, name, shape)).astype(np.float32)).double()


def check(name: str, x: Tensor, expected: list[float], rel: float = 2e-6) -> None:
    """The norm of a tensor, and its product with the direction of that name."""
    norm, product = expected
    direction = torch.from_numpy(recipe.signed("g", name, tuple(x.shape)))
    assert x.double().norm().item() == pytest.approx(norm, rel=rel, abs=rel), name
    value = (x.double() * direction).sum().item()
    assert value == pytest.approx(product, abs=10 * rel * (1 + norm)), name


def distribution(scale: float = 4.0) -> EdgeDistribution:
    edges = EdgeDistribution(32, scale).double()
    # from the formula in float64: the buffer was made in float32
    step = (scale / 2 + 1) ** (1 / 15)
    right = [step**i - 1 for i in range(16)] + [scale]
    edges.values = torch.tensor([-x for x in right[:0:-1]] + right, dtype=torch.float64)
    return edges


@pytest.mark.parametrize("case", GOLDEN["values"], ids=lambda c: f"{c['reg_max']}")
def test_values_of_a_distribution(case: dict) -> None:
    values = edge_values(int(case["reg_max"]), case["reg_scale"], case["up"])
    assert values.tolist() == pytest.approx(case["W"], abs=1e-6)


@pytest.mark.parametrize("name", GOLDEN["maps"])
def test_between_boxes_and_edges(name: str) -> None:
    case, spec = GOLDEN["maps"][name], GOLDEN["maps"][name]["spec"]
    seed, count, edges = spec["seed"], spec["n"], distribution(spec["scale"])
    reference = boxes_of(seed, "ref", count, 0.05, 0.5)
    gt = jitter(reference, recipe.signed(seed, "box", (count, 4)), spec["jitter"])
    reference, gt = (torch.tensor(x.astype(np.float32)).double() for x in (reference, gt))
    if spec.get("zero"):
        reference[1, 2:] = 0
    left, share = edges.targets(reference, gt)
    left, share = left.flatten(), share.flatten()
    moves = signed(seed, "dist", (count, 4), spec.get("dist", 2.0))
    edges.moves = lambda corners: corners
    boxes = edges.boxes(reference, moves)
    check("box", boxes, case["f64"]["box"])
    assert share.norm().item() == pytest.approx(case["f64"]["weight_right"][0], rel=5e-6)
    assert (1 - share).norm().item() == pytest.approx(case["f64"]["weight_left"][0], rel=5e-6)
    if "full" in case:
        assert left.tolist() == [int(x) for x in case["full"]["left_bin"]]
        assert share.tolist() == pytest.approx(case["full"]["weight_right"], abs=3e-5)
        torch.testing.assert_close(boxes, torch.tensor(case["full"]["box"]).double())


@pytest.mark.parametrize("name", GOLDEN["heads"])
def test_heads(name: str) -> None:
    case, spec = GOLDEN["heads"][name], GOLDEN["heads"][name]["spec"]
    seed, shape = spec["seed"], (spec["B"], spec["N"])
    corners = signed(seed, "corners", (*shape, 132), 3.0).requires_grad_()
    scores = signed(seed, "scores", (*shape, spec["K"])).requires_grad_()
    moves = distribution().moves(corners)
    check("integral", moves, case["integral"])
    (moves * torch.from_numpy(recipe.signed("g", "integral", tuple(moves.shape)))).sum().backward()
    check("corners", corners.grad, case["integral_dcorners"])
    corners.grad = None
    estimate = QualityEstimate().double()
    for key, parameter in estimate.named_parameters():
        key = key.replace("mlp", "reg_conf")
        centre, width = recipe.centre_and_width(key, tuple(parameter.shape))
        noise = recipe.signed(seed, key, tuple(parameter.shape))
        parameter.data = torch.tensor((centre + width * noise).astype(np.float32)).double()
    logits = scores + estimate(corners)
    check("lqe", logits, case["lqe"])
    (logits * torch.from_numpy(recipe.signed("g", "lqe", tuple(logits.shape)))).sum().backward()
    check("corners", corners.grad, case["lqe_dcorners"])
    check("scores", scores.grad, case["lqe_dscores"])
    for key, parameter in estimate.named_parameters():
        key = key.replace("mlp", "reg_conf")
        check(key, parameter.grad, case["lqe_dparams"][key])


def matches_of(pairs: list, counts: list[int]) -> Matches:
    """One layer's matches from (query, target of the image) of each image."""
    firsts = np.cumsum([0, *counts])
    rows = [(0, b, q, t + firsts[b]) for b, image in enumerate(pairs) for q, t in image]
    return Matches(*torch.tensor(rows, dtype=torch.int64).reshape(-1, 4).T)


@pytest.mark.parametrize("name", GOLDEN["local_losses"])
def test_losses_of_edges(name: str) -> None:
    case, spec = GOLDEN["local_losses"][name], GOLDEN["local_losses"][name]["spec"]
    seed, kit = spec["seed"], build({"K": 4, **spec})
    shape = (spec["B"], spec["N"], 132)
    corners = signed(seed, "corners", shape, 2.0).requires_grad_()
    teacher = signed(seed, "teacher", shape, 2.0)
    if spec.get("same_teacher"):
        teacher = corners.detach()
    amount = spec.get("ref_jitter", 0.15)
    shifts = [recipe.signed(seed, f"ref{b}", (spec["N"], 4)) for b in range(spec["B"])]
    pairs = zip(kit.boxes.numpy(), shifts, strict=True)
    reference = [torch.tensor(jitter(b, s, amount).astype(np.float32)).double() for b, s in pairs]
    matches = matches_of(case["pairs"], spec["T"]).on_layers(2)
    count, queries = len(matches.query) // 2, spec["B"] * spec["N"]
    predictions = EdgePredictions(
        kit.logits[None].expand(2, -1, -1, -1),
        kit.boxes[None].expand(2, -1, -1, -1),
        QueryGroup(size=spec["N"]),
        corners=torch.stack([corners, teacher]),
        reference=torch.stack(reference),
        edges=distribution(spec.get("scale", 4.0)),
        balance=count**0.5 / (count**0.5 + (queries - count) ** 0.5),
    )
    criterion = DFINECriterion(4, HungarianMatcher(), WEIGHTS, loss_class_type="focal_loss")
    numbers = [torch.tensor(float(count))]
    arguments = [predictions], [matches], kit.targets, ["boxes"], numbers
    losses = criterion.losses_of_matches(*arguments)
    for kind in ("fgl", "ddf"):
        corners.grad = None
        losses[f"loss_{kind}_0"].backward(retain_graph=True)
        assert losses[f"loss_{kind}_0"].item() == pytest.approx(
            case["loss"][f"loss_{kind}"], rel=1e-6, abs=1e-7
        )
        grad = corners.grad if corners.grad is not None else torch.zeros(())
        check("corners", grad, case["grads"][f"loss_{kind}"])


class MadeUp:
    """Outputs of all sets as leaves, by the names of the golden file."""

    def __init__(self, spec: dict) -> None:
        self.spec, self.seed, self.leaves = spec, spec["seed"], {}
        counts, layers, queries = spec["T"], spec["layers"], spec["N"]
        self.targets = []
        for b, count in enumerate(counts):
            labels = torch.as_tensor(recipe.labels(self.seed, b, count, spec["K"]))
            boxes = boxes_of(self.seed, f"gt{b}", count).astype(np.float32)
            self.targets.append({"labels": labels, "boxes": torch.tensor(boxes)})
        encoder = QueryGroup("_enc", queries), "encoder"
        self.sets = self.refined("", QueryGroup(size=queries), queries, layers)
        self.sets.append(self.plain("enc_", *encoder, near=0.35))
        if blocks := spec.get("groups"):
            width = max(counts)
            firsts = [2 * width * block for block in range(blocks)]
            copies = [[(k + i, i) for k in firsts for i in range(count)] for count in counts]
            group = QueryGroup(
                "_dn",
                2 * blocks * width,
                blocks,
                copies=blocks,
                assign=matches_of(copies, counts),
                ranked=False,
                number_last=True,
            )
            self.sets += self.refined("dn_", group, group.size, layers, blocks)

    def leaf(self, name: str, x: Tensor) -> Tensor:
        self.leaves[name] = x.requires_grad_()
        return x

    def near(self, name: str, count: int, amount: float, blocks: int | None) -> Tensor:
        """Boxes (B, N, 4), some or all of them near targets."""
        boxes, counts = [], self.spec["T"]
        for b, targets in enumerate(counts):
            x = boxes_of(self.seed, f"{name}{b}", count)
            if targets:
                gt = boxes_of(self.seed, f"gt{b}", targets)
                query = np.arange(count if blocks else min(count, 2 * targets))
                cycle = np.minimum(query % max(counts), targets - 1) if blocks else query % targets
                shift = recipe.signed(self.seed, f"{name}.jit{b}", (len(query), 4))
                x[query] = jitter(gt[cycle], shift, amount)
            boxes.append(torch.tensor(x.astype(np.float32)))
        return torch.stack(boxes)

    def logits(self, name: str, count: int, spread: float, width: int, centre: float) -> Tensor:
        noise = recipe.signed(self.seed, name, (self.spec["B"], count, width))
        return torch.tensor((centre + spread * noise).astype(np.float32))

    def plain(self, prefix: str, group: QueryGroup, stage: str, near: float, blocks=None):
        logits = self.logits(f"{prefix}logits", group.size, 3.0, self.spec["K"], -1.0)
        boxes = self.near(f"{prefix}box", group.size, near, blocks)
        logits, boxes = self.leaf(f"{prefix}logits", logits), self.leaf(f"{prefix}boxes", boxes)
        return Predictions(logits[None], boxes[None], group, stage)

    def refined(self, prefix: str, group: QueryGroup, size: int, layers: int, blocks=None) -> list:
        reference = self.near(f"{prefix}ref", size, 0.3, blocks)
        stacks = []
        for kind in ("boxes", "logits", "corners"):
            stack = []
            for i in range(layers):
                name = f"{prefix}{kind}{i}"
                if kind == "boxes":
                    x = self.near(f"{prefix}box{i}", size, 0.25 - 0.05 * i, blocks)
                elif kind == "logits":
                    x = self.logits(name, size, 3.0, self.spec["K"], -1.0)
                else:
                    x = self.logits(name, size, 2.0, 132, 0.0)
                stack.append(self.leaf(name, x))
            stacks.append(torch.stack(stack))
        boxes, logits, corners = stacks
        columns = dict(corners=corners, reference=reference, edges=EdgeDistribution())
        initial = QueryGroup(**{**vars(group), "name": f"{group.name}_pre"})
        return [
            EdgePredictions(logits, boxes, group, **columns),
            self.plain(f"{prefix}pre_", initial, "decoder", 0.3, blocks),
        ]


def our_name(official: str, layers: int) -> str:
    """The name of a loss here."""
    name = official.replace("vfl", "class").replace("mal", "class")
    name = name.replace("_aux", "").replace("enc_0", "enc")
    return name.replace(f"_dn_{layers - 1}", "_dn")


@pytest.mark.parametrize("method", ["dfine", "deim"])
@pytest.mark.parametrize("name", GOLDEN["criterion"])
def test_criterion(name: str, method: str) -> None:
    case, spec = GOLDEN["criterion"][name], GOLDEN["criterion"][name]["spec"]
    made = MadeUp(spec)
    for key, expected in case["inputs"].items():
        check(key, made.leaves[key].detach(), expected)
    loss = dict(loss_class_type="varifocal_detached_loss")
    if method == "deim":
        loss = dict(loss_class_type="mal_loss", gamma=1.5)
    matcher = HungarianMatcher(2.0, 5.0, 2.0)
    criterion = DFINECriterion(spec["K"], matcher, WEIGHTS, **loss)
    losses = criterion.weighted(criterion.losses_of_sets(made.sets, made.targets))
    expected = case["deim"] if method == "deim" else case["dfine"]["losses"]
    layers = spec["layers"]
    expected = {our_name(key, layers): value for key, value in expected.items()}
    assert expected.pop("loss_ddf_dn", 0) == 0  # of the last layer by itself
    assert losses.keys() == expected.keys()
    for key, value in losses.items():
        assert value.item() == pytest.approx(expected[key], rel=1e-5, abs=1e-6), key
    if method == "deim":
        return
    sum(losses.values()).backward()
    for key, grad in case["dfine"]["grads"].items():
        check(key, made.leaves[key].grad, grad, 1e-5)


def test_a_query_has_the_target_that_most_layers_give_it() -> None:
    for case in GOLDEN["criterion"].values():
        firsts = np.cumsum([0, *case["spec"]["T"]])
        made = MadeUp(case["spec"])
        criterion = DFINECriterion(case["spec"]["K"], HungarianMatcher(2.0, 5.0, 2.0), WEIGHTS)
        free = [s for s in made.sets if s.group.assign is None]
        solved = [criterion.matcher.match(s.logits, s.boxes, made.targets) for s in free]
        union = union_of(solved)
        for b, pairs in enumerate(case["union"]):
            chosen = union.image == b
            rows = zip(union.query[chosen].tolist(), union.target[chosen].tolist(), strict=True)
            assert sorted([q, t - firsts[b]] for q, t in rows) == sorted(pairs)
