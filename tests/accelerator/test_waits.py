"""How often the host waits for the device: at every wait a GPU runs out of work."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.models import image, tiny
from tests.simulated_device import count_waits, pinned_memory

RANK_DETR = "projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py"
CO_DETR = "projects/co_detr/configs/co_deformable_detr_r50_1x_coco.py"
DETR = "projects/detr/configs/detr_r50_300ep.py"
# A method with denoising, one by layer, and those whose criteria differ.
OTHERS = [
    DETR,
    "projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py",
    "projects/dn_detr/configs/dn_detr_r50_50ep.py",
    "projects/align_detr/configs/aligndetr_k=2_r50_4scale_12ep.py",
    "projects/d_fine/configs/dfine_hgnetv2_s_coco.py",
]
ONE_TO_MANY = {  # and how many sets are
    "projects/ms_detr/configs/ms_detr_r50_12ep.py": 1,
    "projects/dac_detr/configs/dac_detr_r50_12ep.py": 1,
    "projects/mr_detr_align/configs/deformable_detr_r50_two_stage_12ep_plusplus.py": 2,
}
DISTINCT = [
    "projects/ddq_detr/configs/ddq_detr_r50_4scale_12ep.py",
    "projects/ddq_detr/configs/ddq_rank_detr_r50_two_stage_12ep.py",
]
BATCH = [image(64, 96, 3, seed=3), image(96, 64, 2, seed=4)]


@pytest.fixture(params=[True, False], ids=["pinned", "not pinned"])
def pinned(request):
    """Whether memory can be pinned; without it also what goes back makes no host wait."""
    if not request.param:
        yield False
        return
    with pinned_memory():
        yield True


def files(waits: Counter) -> Counter:
    """(kind, file) -> times."""
    totals = Counter()
    for (kind, line), count in waits.items():
        totals[kind, line.partition(":")[0]] += count
    return totals


def training_step(config: str, **overrides) -> Counter:
    model = tiny(config, **overrides).to("sim").train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    with count_waits() as waits:
        losses = model(BATCH)
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.1, foreach=True)
        optimizer.step()
    return files(waits)


@pytest.mark.parametrize("config", [RANK_DETR, *OTHERS], ids=lambda c: Path(c).stem)
def test_a_training_step_waits_for_the_costs_only(config, pinned) -> None:
    kind = "event" if pinned else "to host"
    assert training_step(config) == {(kind, "detrex/modeling/matcher/assignment.py"): 1}


@pytest.mark.parametrize("config", ONE_TO_MANY, ids=lambda c: c.split("/")[1])
def test_sets_assigned_one_to_many_are_waited_for_too(config, pinned) -> None:
    kind = "event" if pinned else "to host"
    assert training_step(config) == {
        (kind, "detrex/modeling/matcher/assignment.py"): 1,
        (kind, "detrex/modeling/matcher/one_to_many.py"): ONE_TO_MANY[config],
    }


@pytest.mark.parametrize("config", [RANK_DETR, DETR, CO_DETR], ids=lambda c: Path(c).stem)
def test_an_evaluated_batch_waits_once(config, pinned) -> None:
    model = tiny(config).to("sim").eval()
    with count_waits() as waits, torch.no_grad():
        model(BATCH)
    kind = "event" if pinned else "to host"
    assert files(waits) == {(kind, "detrex/modeling/postprocess.py"): 1}


@pytest.mark.parametrize("config", DISTINCT, ids=lambda c: Path(c).stem)
def test_distinct_queries_wait_once_between_layers(config) -> None:
    """And once an image for the proposals: NMS says how many boxes are left."""
    nms = {("nms", "detrex/modeling/distinct.py"): 2 + 1}  # two images, two decoder layers
    costs = {("to host", "detrex/modeling/matcher/assignment.py"): 1}
    assert training_step(config, distinct_iou=1.0) == costs | nms
    model = tiny(config, distinct_iou=1.0).to("sim").eval()
    with count_waits() as waits, torch.no_grad():
        model(BATCH)
    assert files(waits) == {("to host", "detrex/modeling/postprocess.py"): 1, **nms}


def test_co_detr_waits_for_what_detectron2_asks() -> None:
    """Its own waits: how many positives the heads have, and the costs.

    The rest are in detectron2's RPN and box head: they ask of each image whether proposals are
    finite and not empty (3 items), draw samples by ``nonzero`` (2 for anchors, 2 for proposals),
    run NMS, count samples for its log, and index with masks in the losses. Their numbers of
    proposals and samples are sizes of tensors, which only other modules could do without.
    """
    with pinned_memory():
        waits = training_step(CO_DETR)
    heads = "projects/co_detr/modeling/faster_rcnn.py"
    others = {key: count for key, count in waits.items() if key[1] not in (heads, "elsewhere")}
    assert others == {
        ("event", "projects/co_detr/modeling/assigned.py"): 1,
        ("event", "detrex/modeling/matcher/assignment.py"): 1,
    }
    limits = {"item": 14, "mask": 21, "nonzero": 17, "nms": 2, "repeat_interleave": 1}
    for kind, limit in {**limits, "to device": 3, "event": 0}.items():
        assert waits[kind, heads] <= limit, kind
    assert waits["mask", "elsewhere"] <= 7  # the gradients of those masks
