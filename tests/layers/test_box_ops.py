from __future__ import annotations

import torch

from detrex.layers import (
    box_cxcywh_to_xyxy,
    box_iou,
    box_xyxy_to_cxcywh,
    generalized_box_iou,
    overlaps,
)

BOXES = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [5.0, 0.0, 6.0, 1.0]])


def test_formats_convert_back_and_forth() -> None:
    expected = torch.tensor([[1.0, 1.0, 2.0, 2.0], [2.0, 2.0, 2.0, 2.0], [5.5, 0.5, 1.0, 1.0]])
    assert torch.equal(box_xyxy_to_cxcywh(BOXES), expected)
    assert torch.equal(box_cxcywh_to_xyxy(expected), BOXES)


def test_iou_and_giou_of_hand_computed_boxes() -> None:
    iou, union = box_iou(BOXES[:1], BOXES)
    torch.testing.assert_close(iou, torch.tensor([[1.0, 1 / 7, 0.0]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(union, torch.tensor([[4.0, 7.0, 5.0]]))
    # hulls: 4, 9 (2 empty), 12 (7 empty)
    giou = generalized_box_iou(BOXES[:1], BOXES)
    expected = torch.tensor([[1.0, 1 / 7 - 2 / 9, -7 / 12]])
    torch.testing.assert_close(giou, expected, atol=1e-6, rtol=0)


def test_pairs_are_the_diagonal_of_all_against_all() -> None:
    other = BOXES.flip(0) + 0.25
    iou, giou, _ = overlaps(BOXES, other)
    assert torch.equal(iou, box_iou(BOXES, other)[0].diagonal())
    assert torch.equal(giou, generalized_box_iou(BOXES, other).diagonal())
