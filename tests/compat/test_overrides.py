"""Upstream's methods are called wherever they are overridden, or refused; on every detector."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from detrex.compat.overrides import CALLED, LAYER_METHODS, REFUSED, followed, refuse
from detrex.modeling import SetCriterion
from detrex.predict.graph import DetectorGraph
from detrex.utils.errors import InputError
from tests.models import image, tiny

DETECTORS = {
    "deformable": "deformable_detr/configs/deformable_detr_r50_50ep.py",
    "deformable two-stage": "deformable_detr/configs/deformable_detr_r50_two_stage_50ep.py",
    "h-deformable": "h_deformable_detr/configs/h_deformable_detr_r50_two_stage_12ep.py",
    "rank": "rank_detr/configs/rank_detr_r50_two_stage_12ep.py",
    "rank with align": "rank_detr/configs/rank_detr_r50_two_stage_12ep_align.py",
    "rank-dino": "rank_detr/configs/rank_dino_r50_4scale_12ep.py",
    "dino": "dino/configs/dino-resnet/dino_r50_4scale_12ep.py",
    "align": "align_detr/configs/aligndetr_k=2_r50_4scale_12ep.py",
    "align-dab": "align_dab_detr/configs/align_dab_detr_r50_50ep.py",
    "dab": "dab_detr/configs/dab_detr_r50_50ep.py",
    "dab-deformable": "dab_deformable_detr/configs/dab_deformable_detr_r50_two_stage_50ep.py",
    "dn": "dn_detr/configs/dn_detr_r50_50ep.py",
    "dn-deformable": "dn_deformable_detr/configs/dn_deformable_detr_r50_50ep.py",
    "detr": "detr/configs/detr_r50_300ep.py",
    "conditional": "conditional_detr/configs/conditional_detr_r50_50ep.py",
    "group": "group_detr/configs/group_detr_r50_50ep.py",
    "anchor": "anchor_detr/configs/anchor_detr_r50_50ep.py",
    "ms": "ms_detr/configs/ms_detr_r50_12ep.py",
    "co": "co_detr/configs/co_deformable_detr_r50_1x_coco.py",
    "rt": "rt_detr/configs/rtdetr_r50vd_6x_coco.py",
    "rank-rt": "rank_rt_detr/configs/rank_rtdetr_r50vd_6x_coco.py",
}
BATCH = [image(48, 64, 3, seed=3), image(64, 48, 1, seed=4)]


@pytest.fixture(scope="module", params=DETECTORS.values(), ids=DETECTORS.keys())
def detector(request: pytest.FixtureRequest) -> nn.Module:
    return tiny(f"projects/{request.param}").train()


def losses(detector: nn.Module) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return detector(BATCH)


class Counted:
    """Puts a counter before a method of an object, as a subclass that calls ``super()`` would."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.calls = patch, []

    def __call__(self, part: object, name: str) -> None:
        method = getattr(type(part), name)

        @functools.wraps(method)
        def counted(*args, **kwargs):
            self.calls.append(name)
            return method(*args, **kwargs)

        own = type(f"Own{type(part).__name__}", (type(part),), {name: counted})
        self.patch.setattr(part, "__class__", own)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def test_layer_by_layer_gives_the_same_losses(detector: nn.Module, counted: Counted) -> None:
    expected = losses(detector)
    assert not followed(detector)
    for part in ("criterion", "matcher"):
        for name in CALLED[part]:
            owner = detector.criterion if part == "criterion" else detector.criterion.matcher
            if hasattr(owner, name):
                counted(owner, name)
    counted(detector, "_set_aux_loss")
    found = losses(detector)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    assert {*LAYER_METHODS[:4], "forward", "match", "_set_aux_loss"} <= set(counted.calls)


def test_every_method_of_the_table_is_noticed_by_itself(detector: nn.Module, counted) -> None:
    parts = {
        "criterion": detector.criterion,
        "matcher": detector.criterion.matcher,
        "detector": detector,
    }
    for place, part in parts.items():
        for name in (n for n in CALLED[place] if hasattr(part, n)):
            with pytest.MonkeyPatch.context() as patch:
                Counted(patch)(part, name)
                noticed = followed(detector)
            needs_layers = place != "detector" or name == "_set_aux_loss"
            assert noticed == [f"Own{type(part).__name__}.{name}"] * needs_layers, (place, name)
    assert not followed(detector)


class OwnInference:
    """What a subclass of any detector may do."""

    def preprocess_image(self, batched_inputs):
        self.seen.append("preprocess_image")
        images = super().preprocess_image(batched_inputs)
        images.tensor = images.tensor * 0
        return images

    def prepare_targets(self, targets):
        self.seen.append("prepare_targets")
        assert targets[0].gt_boxes.device == self.device
        return super().prepare_targets(targets)

    def inference(self, box_cls, box_pred, image_sizes):
        self.seen.append("inference")
        results = super().inference(box_cls, box_pred, image_sizes)
        return [result[:1] for result in results]


def test_methods_of_a_detector_are_called(
    detector: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = type("OwnDetector", (OwnInference, type(detector)), {"seen": []})
    monkeypatch.setattr(detector, "__class__", own)
    losses(detector)
    assert detector.seen == ["preprocess_image", "prepare_targets"]
    with torch.no_grad():
        first, other = detector.eval()([BATCH[0], {**BATCH[0], "image": BATCH[0]["image"] // 2}])
    detector.train()
    assert detector.seen[2:] == ["preprocess_image", "inference"]
    found, equal = first["instances"], other["instances"]
    assert len(found) == 1
    torch.testing.assert_close(found.scores, equal.scores)  # of equal images


@contextmanager
def swapped(owner: nn.Module, name: str, value: nn.Module) -> Iterator[None]:
    """Inside, the owner has another part of that name."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class OnlyForward(nn.Module):
    """A matcher of its own: the first queries answer for the targets."""

    def forward(self, outputs, targets, gt_copy=1):
        ranges = [torch.arange(len(target["labels"])) for target in targets]
        return [(numbers, numbers) for numbers in ranges]


def test_a_matcher_that_never_derived_from_ours(
    detector: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    criterion = detector.criterion
    pairs = []
    method = criterion.loss_boxes

    def loss_boxes(outputs, targets, indices, num_boxes):
        pairs.append((indices[0][0].tolist(), indices[1][1].tolist()))
        return method(outputs, targets, indices, num_boxes)

    monkeypatch.setattr(criterion, "loss_boxes", loss_boxes)
    with swapped(criterion, "matcher", OnlyForward()):
        found = losses(detector)
    assert all(value.isfinite() for value in found.values())
    assert pairs[0][0][:3] == [0, 1, 2] and pairs[0][1][:1] == [0]


class SumOfScores(nn.Module):
    """A criterion that never derived from ours."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_dict = {"loss_score": 2.0}

    def forward(self, outputs, targets, *denoising):
        layers = {"": outputs} | {f"_{i}": x for i, x in enumerate(outputs["aux_outputs"])}
        found = {f"loss_score{n}": x["pred_logits"].sum() for n, x in layers.items()}
        return {**found, "loss_boxes": outputs["pred_boxes"].sum()}


def test_a_criterion_that_never_derived_from_ours(detector: nn.Module) -> None:
    with swapped(detector, "criterion", SumOfScores()):
        if not hasattr(detector, "auxiliary"):
            check_sums(detector)
            return
        with pytest.raises(InputError, match="SumOfScores cannot supervise the queries '_rcnn'"):
            detector(BATCH)


def check_sums(detector: nn.Module) -> None:
    torch.manual_seed(1)
    targets = detector.targets(BATCH)
    outputs, queries = detector.run(detector.encode(detector.preprocess(BATCH)), targets)
    primary = detector.supervised_sets(outputs, queries.groups)[0]
    found = losses(detector)
    torch.testing.assert_close(found["loss_score"], 2 * primary.logits[-1].sum())
    torch.testing.assert_close(found["loss_score_0"], primary.logits[0].sum())
    torch.testing.assert_close(found["loss_boxes"], primary.boxes[-1].sum())


def test_what_cannot_be_followed_is_refused(detector: nn.Module) -> None:
    def foreign(self, query, key=None, value=None):
        raise AssertionError

    refuse(detector)
    for place, methods in REFUSED.items():
        part = functools.reduce(
            lambda part, name: getattr(part, name, None), place.split(".")[1:], detector
        )
        if place.endswith("decoder") and detector.follows_decoder:
            part = None
        for name in methods if part is not None else ():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(part), name, foreign, raising=False)
                message = rf"^{place}: {type(part).__name__}\.{name}\(\) would not be called: "
                with pytest.raises(InputError, match=message):
                    refuse(detector)
                patch.setattr(type(detector), "forward", foreign)
                refuse(detector)  # its own forward calls what it likes


def test_methods_of_upstream_that_are_called_name_the_seam(detector: nn.Module) -> None:
    for part, place in ((detector, "model"), (detector.transformer, "model.transformer")):
        if place.endswith("former") and not hasattr(part, "get_valid_ratio"):
            continue  # Anchor DETR's and RT-DETR's, which upstream does not have
        for name, seam in REFUSED[place].items():
            with pytest.raises(InputError, match=rf"{name}.. of detrex is not offered: ") as error:
                getattr(part, name)(1, attn_masks=None)
            assert str(error.value).endswith(seam)


def test_a_forward_that_calls_ours_does_not_hide_what_is_not_called(
    detector: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Timed:
        def forward(self, batched_inputs):
            return super().forward(batched_inputs)

    monkeypatch.setattr(detector, "__class__", type("Own", (Timed, type(detector)), {}))
    assert losses(detector)
    monkeypatch.setattr(type(detector.transformer), "forward", lambda self, x: x)
    with pytest.raises(InputError, match="forward.. would not be called"):
        losses(detector)


def test_one_line_says_that_it_is_slower(
    caplog: pytest.LogCaptureFixture, counted: Counted
) -> None:
    model = tiny(f"projects/{DETECTORS['dino']}").train()
    counted(model.criterion, "loss_boxes")
    with caplog.at_level(logging.INFO):
        losses(model), losses(model)
    lines = [r.getMessage() for r in caplog.records if "layer by layer" in r.getMessage()]
    assert len(lines) == 1 and "OwnTwoStageCriterion.loss_boxes()" in lines[0]


@pytest.mark.parametrize("owner", ["class", "object", "wrapped"])
def test_a_method_is_noticed_however_it_got_there(
    owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(f"projects/{DETECTORS['deformable']}").train()
    original, calls = SetCriterion.loss_labels, []

    def loss_labels(self, *args):
        calls.append(args)
        return original(self, *args)

    if owner == "wrapped":
        loss_labels = functools.wraps(original)(loss_labels)
    if owner == "object":
        monkeypatch.setattr(
            model.criterion, "loss_labels", functools.partial(loss_labels, model.criterion)
        )
    else:
        monkeypatch.setattr(SetCriterion, "loss_labels", loss_labels)
    losses(model)
    assert len(calls) == 2  # layers


def test_an_iou_branch_is_not_dropped_silently(counted: Counted) -> None:
    model = tiny(f"projects/{DETECTORS['rank']}", iou_branch=True).train()
    counted(model.criterion, "loss_boxes")
    with pytest.raises(InputError, match="model.iou_branch needs a criterion"):
        model(BATCH)


def test_arguments_of_a_detector_are_attributes(detector: nn.Module) -> None:
    parameters = inspect.signature(type(detector).__init__).parameters.values()
    names = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    shared = ["num_classes", "num_queries", "embed_dim"] if "groups" not in names else []
    assert not [name for name in [*names[1:], *shared] if not hasattr(detector, name)]


def test_a_graph_without_an_own_inference_is_not_exported(counted: Counted) -> None:
    model = tiny(f"projects/{DETECTORS['deformable']}").eval()
    assert DetectorGraph(model).detector is model
    counted(model, "inference")
    with pytest.raises(InputError, match="OwnDeformableDETR.inference.. would not be part"):
        DetectorGraph(model)
