"""RPN and box head of Faster R-CNN (Ren et al., NeurIPS 2015), made of detectron2's modules.

Legend: B images, C channels; boxes are xyxy in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    StandardROIHeads,
)
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from .anchors import AnchorGenerator, WaitlessMatcher
from .assigned import Assigned


class FasterRCNNHead(nn.Module):
    """Nine anchors a place, 1,000 proposals an image, ``sampled`` of them for the box head.

    ``strides``: pixels between two places of each level; proposals are pooled from all but the
    coarsest. ``fc_dim``: width of the box head's two layers.
    """

    name = "rcnn"

    def __init__(
        self,
        num_classes: int,
        embed_dim: int,
        strides: Sequence[int],
        fc_dim: int = 1024,
        sampled: int = 512,
    ) -> None:
        super().__init__()
        self.level_names = [f"p{i}" for i in range(len(strides))]
        self.rpn = _build_rpn(self.level_names, embed_dim, strides)
        box_head = FastRCNNConvFCHead(
            ShapeSpec(channels=embed_dim, height=7, width=7), conv_dims=[], fc_dims=[fc_dim, fc_dim]
        )
        self.roi_heads = StandardROIHeads(
            num_classes=num_classes,
            batch_size_per_image=sampled,
            positive_fraction=0.25,
            proposal_matcher=WaitlessMatcher([0.5], [0, 1]),
            box_in_features=self.level_names[:-1],
            box_pooler=ROIPooler(7, [1 / stride for stride in strides[:-1]], 0, "ROIAlignV2"),
            box_head=box_head,
            box_predictor=FastRCNNOutputLayers(
                box_head.output_shape,
                box2box_transform=Box2BoxTransform((10.0, 10.0, 5.0, 5.0)),
                num_classes=num_classes,
                box_reg_loss_type="giou",
                loss_weight={"loss_box_reg": 10.0},
            ),
        )

    def forward(
        self, levels: Sequence[Tensor], gt: Sequence[Instances]
    ) -> tuple[dict[str, Tensor], list[Assigned]]:
        """Losses and sampled proposals with their assignment, of levels (B, C, H, W)."""
        images = ImageList(levels[0], [x.image_size for x in gt])  # only their sizes are asked for
        heads = self.roi_heads
        with EventStorage():  # detectron2 counts samples there; they are not the trainer's metrics
            features = dict(zip(self.level_names, levels, strict=True))
            proposals, losses = self.rpn(images, features, gt)
            proposals = heads.label_and_sample_proposals(proposals, gt)
            boxes = [x.proposal_boxes for x in proposals]
            pooled = heads.box_pooler(list(levels[:-1]), boxes)
            predictions = heads.box_predictor(heads.box_head(pooled))
            box_losses = heads.box_predictor.losses(predictions, proposals)
        losses.update({k.replace("loss_", "loss_rcnn_"): v for k, v in box_losses.items()})
        features = pooled.mean((2, 3)).split([len(x) for x in proposals])
        return losses, list(map(self._assigned, proposals, features))

    def _assigned(self, proposals: Instances, features: Tensor) -> Assigned:
        target = torch.full_like(proposals.gt_classes, -1)
        if proposals.has("gt_index"):
            positive = proposals.gt_classes < self.roi_heads.num_classes
            target = torch.where(positive, proposals.gt_index, target)
        return Assigned(proposals.proposal_boxes.tensor, features, target)


def _build_rpn(level_names: list[str], embed_dim: int, strides: Sequence[int]) -> RPN:
    sizes = [[4 * stride * 2 ** (third / 3) for third in range(3)] for stride in strides]
    return RPN(
        in_features=level_names,
        head=StandardRPNHead(in_channels=embed_dim, num_anchors=9),
        anchor_generator=AnchorGenerator(
            sizes=sizes, aspect_ratios=[0.5, 1.0, 2.0], strides=strides
        ),
        anchor_matcher=WaitlessMatcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_topk=(4000, 4000),
        post_nms_topk=(1000, 1000),
    )
