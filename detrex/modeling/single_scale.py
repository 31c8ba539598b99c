"""The detector for one feature level: DETR, Conditional DETR, DAB-DETR and the like.

Legend: B images, L layers, N queries, C channels, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from detrex.modeling.detector import Detector, Images
from detrex.modeling.heads import build_head
from detrex.modeling.queries import Queries, QueryGroup, as_groups, query_count
from detrex.modeling.transformer import DenseMemory, DenseTransformer
from detrex.utils.arguments import keep_arguments


class SingleScaleDetector(Detector):
    """``in_features[-1]`` of the backbone, projected by ``input_proj``, and one pair of heads.

    All layers share the heads. A subclass overrides ``make_queries``.

    Args:
        groups: replaces the one group of ``num_queries``.
        queries: learned modules of ``make_queries`` by attribute name.
        before: the same, for those that the state_dict lists before the transformer.
        iou_branch: see :meth:`~detrex.modeling.detector.Detector.finish`.
        iou_weight: as well.
        nms_iou: as well.
        device: no effect: the model is where it was moved to.
    """

    # As upstream: conditional decoders are trained without a padding mask. At inference every
    # decoder gets it, so that detections do not depend on the other images of the batch.
    trains_with_mask = False

    @keep_arguments
    def __init__(
        self,
        backbone: nn.Module,
        in_features: Sequence[str],
        in_channels: int,
        position_embedding: nn.Module,
        transformer: DenseTransformer,
        embed_dim: int,
        num_classes: int,
        num_queries: int,
        criterion: nn.Module,
        aux_loss: bool = True,
        pixel_mean: Sequence[float] = (123.675, 116.280, 103.530),
        pixel_std: Sequence[float] = (58.395, 57.120, 57.375),
        select_box_nums_for_evaluation: int = 300,
        device: str = "cuda",
        groups: Sequence[QueryGroup] = (),
        queries: Mapping[str, nn.Module] | None = None,
        before: Mapping[str, nn.Module] | None = None,
        iou_branch: bool = False,
        iou_weight: float = 0.3,
        nms_iou: float | None = None,
    ) -> None:
        super().__init__(backbone, position_embedding, None, pixel_mean, pixel_std)
        self.groups = as_groups(groups, num_queries)
        self.in_features = list(in_features)
        self.input_proj = nn.Conv2d(in_channels, embed_dim, kernel_size=1)
        modules = {**(before or {}), "transformer": transformer, **(queries or {})}
        for name, module in modules.items():
            self.add_module(name, module)
        self.class_embed, self.bbox_embed = build_head(embed_dim, num_classes)
        self.finish(
            criterion, aux_loss, select_box_nums_for_evaluation, iou_branch, iou_weight, nms_iou
        )

    def features(self, pixels: Tensor) -> list[Tensor]:
        return [self.input_proj(self.backbone(pixels)[self.in_features[-1]])]

    def encode(self, images: Images) -> DenseMemory:
        memory = super().encode(images)
        hide = self.trains_with_mask or not self.training
        return memory if hide else replace(memory, mask=None)


class LearnedQueryDetector(SingleScaleDetector):
    """Queries are learned positions (``query_embed``); their contents start at zero."""

    @keep_arguments
    def __init__(
        self,
        *,
        embed_dim: int,
        num_queries: int,
        groups: Sequence[QueryGroup] = (),
        **single_scale,
    ) -> None:
        groups = as_groups(groups, num_queries)
        queries = {"query_embed": nn.Embedding(query_count(groups), embed_dim)}
        super().__init__(
            embed_dim=embed_dim,
            num_queries=num_queries,
            groups=groups,
            queries=queries,
            **single_scale,
        )

    def make_queries(self, memory: DenseMemory, targets: list[dict] | None) -> Queries:
        groups = self.active_groups
        total, batch = query_count(groups), memory.tokens.shape[0]
        position = self.query_embed.weight[:total].expand(batch, -1, -1)  # (B, N, C)
        return Queries(torch.zeros_like(position), position, None, groups)
