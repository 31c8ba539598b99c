"""Anchor DETR (Wang et al., AAAI 2022, arXiv 2109.07107): queries are anchor points.

Legend: B images, N queries, C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detrex.modeling.detector import Detector
from detrex.modeling.heads import Heads
from detrex.modeling.queries import Queries, QueryGroup, as_groups, query_count
from detrex.utils.arguments import keep_arguments

from .row_column_attention import FeatureMap
from .transformer import AnchorDETRTransformer


class AnchorDETR(Detector):
    """``in_features[-1]`` of the backbone, and boxes measured from anchor points.

    ``groups`` share out the transformer's queries, pattern after pattern. ``iou_branch``,
    ``iou_weight``, ``nms_iou``: see :meth:`~detrex.modeling.detector.Detector.finish`. ``device``
    has no effect: the model lives where it is moved to.

    Raises:
        ValueError: groups that do not add up to the transformer's queries.
    """

    @keep_arguments
    def __init__(
        self,
        backbone: nn.Module,
        in_features: Sequence[str],
        in_channels: int,
        transformer: AnchorDETRTransformer,
        embed_dim: int,
        criterion: nn.Module,
        aux_loss: bool = True,
        pixel_mean: Sequence[float] = (123.675, 116.280, 103.530),
        pixel_std: Sequence[float] = (58.395, 57.120, 57.375),
        select_box_nums_for_evaluation: int = 100,
        device: str = "cuda",
        groups: Sequence[QueryGroup] = (),
        iou_branch: bool = False,
        iou_weight: float = 0.3,
        nms_iou: float | None = None,
    ) -> None:
        super().__init__(backbone, None, None, pixel_mean, pixel_std)
        count = transformer.pattern.num_embeddings * len(transformer.points)
        self.groups = as_groups(groups, count)
        if query_count(self.groups) != count:
            raise ValueError(
                f"model.groups have {query_count(self.groups)} queries, the transformer's patterns "
                f"x positions are {count}"
            )
        self.in_features = list(in_features)
        self.transformer = transformer
        self.input_proj = nn.Sequential(
            nn.Conv2d(in_channels, embed_dim, kernel_size=1), nn.GroupNorm(32, embed_dim)
        )
        self.finish(
            criterion, aux_loss, select_box_nums_for_evaluation, iou_branch, iou_weight, nms_iou
        )

    def features(self, pixels: Tensor) -> list[Tensor]:
        return [self.input_proj(self.backbone(pixels)[self.in_features[-1]])]

    def encode_levels(self, features: Sequence[Tensor], masks: Sequence[Tensor]) -> FeatureMap:
        # As upstream, padding counts in the means of rows and columns in training. At inference it
        # does not, so that detections do not depend on the other images of the batch.
        (feature,), (mask,) = features, masks
        return self.transformer.encode(feature, mask, count_padding=self.training)

    def heads(self) -> Heads:
        classes, boxes = self.transformer.class_embed, self.transformer.bbox_embed
        return Heads(classes, boxes, self.heads_refine, self.iou_embed)

    def make_queries(self, memory: FeatureMap, targets: list[dict] | None) -> Queries:
        groups = self.active_groups
        learned = (x[: query_count(groups)] for x in self.transformer.queries())
        batch = len(memory.tokens)
        return Queries(*(x.expand(batch, -1, -1) for x in learned), groups)
