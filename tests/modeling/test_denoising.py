"""Denoising queries: their values, their known assignment, and what they may not touch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detrex.layers import GenerateDNQueries, box_cxcywh_to_xyxy
from detrex.modeling.criterion import Predictions, SetCriterion
from detrex.modeling.denoising import contrastive_denoising, plain_denoising
from detrex.modeling.matcher import HungarianMatcher
from detrex.modeling.queries import isolation_mask
from tests.models import image, tiny

DINO = "projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py"
DN = "projects/dn_deformable_detr/configs/dn_deformable_detr_r50_12ep.py"


def targets(*counts: int) -> list[dict]:
    generator = torch.Generator().manual_seed(5)
    return [
        {
            "labels": torch.randint(0, 4, (count,), generator=generator),
            "boxes": torch.rand(count, 4, generator=generator) * 0.2 + 0.4,
        }
        for count in counts
    ]


def corners_in_half_sizes(boxes: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How far the corners of boxes (..., 4) are from those of a target (4,), in half sizes."""
    shift = (box_cxcywh_to_xyxy(boxes) - box_cxcywh_to_xyxy(target)).abs()
    return shift / (target[2:].repeat(2) / 2)


def test_contrastive_pairs_lie_inside_and_outside_the_noise() -> None:
    torch.manual_seed(0)
    batch = targets(3, 1)
    embedding = nn.Embedding(4, 8)
    queries = contrastive_denoising(batch, embedding, number=10, label_noise=0.0, box_noise=0.5)
    group = queries.groups[0]
    assert (group.size, group.blocks, group.copies) == (18, 3, 3)  # 10 // 3 blocks of 2 * 3
    boxes = queries.boxes.view(2, 3, 2, 3, 4)  # image, block, positive | negative, slot
    content = queries.content.view(2, 3, 2, 3, 8)
    for i, target in enumerate(batch):
        for slot, (label, box) in enumerate(zip(target["labels"], target["boxes"], strict=True)):
            inner = corners_in_half_sizes(boxes[i, :, 0, slot], box)
            outer = corners_in_half_sizes(boxes[i, :, 1, slot], box)
            assert inner.max() <= 0.5 + 1e-4
            assert 0.5 - 1e-4 <= outer.min() and outer.max() <= 1 + 1e-4
            expected = embedding.weight[label].expand(3, 2, 8)
            assert torch.equal(content[i, :, :, slot], expected)
    assert not content[1, :, :, 1:].any()  # padding of the second image
    assert (boxes[1, :, :, 1:] == 0.5).all()


def test_plain_copies_move_by_up_to_the_noise() -> None:
    torch.manual_seed(0)
    batch = targets(2)
    generator = GenerateDNQueries(10, 4, 8, 200, 0.0, 0.4)
    boxes = plain_denoising(batch, generator).boxes.view(200, 2, 4)
    size = batch[0]["boxes"][:, 2:]
    moved = (boxes - batch[0]["boxes"]).abs()
    assert (moved[..., :2] / size).max() == pytest.approx(0.2, abs=0.005)
    assert (moved[..., 2:] / size).max() == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_labels_are_drawn_anew_as_often_as_told(noise: float) -> None:
    torch.manual_seed(0)
    batch = targets(4)
    generator = GenerateDNQueries(10, 50, 1, 500, noise, 0.4)
    with torch.no_grad():
        generator.label_encoder.weight.copy_(torch.arange(50.0)[:, None])
    labels = plain_denoising(batch, generator).content.view(500, 4)
    changed = (labels != batch[0]["labels"]).float().mean().item()
    assert changed == pytest.approx(noise * 49 / 50, abs=0.03)


def test_the_indicator_marks_denoising_queries_only() -> None:
    generator = GenerateDNQueries(10, 4, 8, denoising_groups=2, with_indicator=True)
    queries = plain_denoising(targets(2, 1), generator)
    assert queries.content.shape == (2, 4, 8)
    assert queries.content[0, :, -1].tolist() == [1, 1, 1, 1]
    assert queries.content[1, :, -1].tolist() == [1, 0, 1, 0]  # every second is padding
    assert generator.unmarked(torch.ones(1, 3, 7))[..., -1].tolist() == [[0, 0, 0]]


def test_the_known_assignment_is_used_and_normalised() -> None:
    """Positives answer for their own target in every layer; the rest is background."""
    batch = targets(2, 1)
    group = contrastive_denoising(batch, nn.Embedding(4, 8), number=4).groups[0]
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 2, group.size, 4, generator=generator)
    boxes = torch.rand(2, 2, group.size, 4, generator=generator)
    criterion = SetCriterion(4, HungarianMatcher(), {"loss_class": 1.0})
    losses = criterion.losses_of_sets([Predictions(logits, boxes, group)], batch)
    assert group.copies == 2 and group.size == 8
    for layer, number in ((0, "_0"), (1, "")):
        l1 = focal = 0.0
        positive = {}
        for i, target in enumerate(batch):
            for block in range(2):
                for slot in range(len(target["labels"])):
                    query = block * 4 + slot
                    positive[i, query] = target["labels"][slot]
                    l1 += (boxes[layer, i, query] - target["boxes"][slot]).abs().sum()
        for i in range(2):
            for query in range(group.size):
                for cls in range(4):
                    p = logits[layer, i, query, cls].sigmoid()
                    if positive.get((i, query)) == cls:
                        focal -= 0.25 * (1 - p) ** 2 * p.log()
                    else:
                        focal -= 0.75 * p**2 * (1 - p).log()
        torch.testing.assert_close(losses[f"loss_bbox_dn{number}"], l1 / (3 * 2))
        torch.testing.assert_close(losses[f"loss_class_dn{number}"], focal / (3 * 2))


def test_nothing_to_denoise_is_an_empty_group() -> None:
    embedding = nn.Embedding(4, 8)
    queries = contrastive_denoising(targets(0, 0), embedding)
    assert queries.content.shape == (2, 0, 8) and queries.groups[0].size == 0
    assert isolation_mask(queries.groups, torch.device("cpu")).shape == (0, 0)
    queries.content.sum().backward()
    assert not embedding.weight.grad.any()


@pytest.mark.parametrize("config", [DINO, DN])
def test_denoising_queries_do_not_reach_the_others(config: str) -> None:
    """Neither the matching queries, nor another block of their own."""
    model = tiny(config).train()
    batch = [image(64, 96, 3, seed=1), image(80, 48, 2, seed=2)]
    with torch.no_grad():
        memory = model.encode(model.preprocess(batch))
        queries = model.make_queries(memory, model.targets(batch))
        before = model.decode(queries, memory)
        group = queries.groups[1]
        block = slice(10, 10 + group.size // group.blocks)
        queries.content[:, block] += 1.0
        queries.boxes[:, block] *= 0.9
        after = model.decode(queries, memory)
    for x, y in zip(before[:2], after[:2], strict=True):
        assert torch.equal(x[:, :, :10], y[:, :, :10])
        assert not torch.equal(x[:, :, block], y[:, :, block])
        assert torch.equal(x[:, :, block.stop :], y[:, :, block.stop :])
        assert group.blocks > 1


@pytest.mark.parametrize("config", [DINO, DN])
@pytest.mark.parametrize("counts", [(40, 0), (0, 0)])
def test_crowded_and_empty_batches_train_every_parameter(config: str, counts: tuple) -> None:
    model = tiny(config).train()
    losses = model([image(64, 64, count, seed=i) for i, count in enumerate(counts)])
    assert "loss_class_dn_0" in losses
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


@pytest.mark.parametrize("counts", [(2, 1), (0, 0)])
def test_the_generator_is_usable_without_query_groups(counts: tuple[int, ...]) -> None:
    """Upstream's arguments and results: boxes before the sigmoid and a mask, denoising first."""
    batch = targets(*counts)
    generator = GenerateDNQueries(3, 4, 8, denoising_groups=2, with_indicator=True)
    torch.manual_seed(0)
    content, boxes, mask, groups, width = generator(
        [t["labels"] for t in batch], [t["boxes"] for t in batch]
    )
    torch.manual_seed(0)
    queries = plain_denoising(batch, generator)
    assert (groups, width) == (2, max(counts))
    assert torch.equal(content, queries.content)
    assert torch.equal(boxes.sigmoid(), queries.boxes)
    total = 2 * width + 3
    for query in range(total):
        for key in range(total):
            own_block = query < 2 * width and query // max(width, 1) == key // max(width, 1)
            assert mask[query, key] == (key < 2 * width and not own_block)
