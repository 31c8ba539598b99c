"""Co-DETR (Zong et al., ICCV 2023): heads that assign many positives train the encoder, and their
positives train the decoder.

The heads and queries are used in training only; at inference the model is its base.

Legend: B images, S tokens of all levels, N queries, R candidates of a head, C channels; the
decoder's boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from detrex.layers import box_xyxy_to_cxcywh, get_sine_pos_embed
from detrex.modeling.matcher import Matches
from detrex.modeling.queries import Queries, QueryGroup
from detrex.modeling.transformer import Memory
from detrex.utils.device import send
from projects.deformable_detr.modeling import DeformableDETR
from projects.dino.modeling import DINO

from .assigned import choose, count_positives, pixel_instances, scale
from .soft_nms import soft_nms


class PositiveQueries(nn.Module):
    """Queries from the positives of a head: linear(sine(box)) + linear(feature) (eq. 4).

    ``with_position``: the place gives a position, too, as in two-stage Deformable DETR.
    """

    def __init__(self, embed_dim: int, with_position: bool) -> None:
        super().__init__()
        width = embed_dim * (2 if with_position else 1)
        self.embed_dim = embed_dim
        self.place = nn.Sequential(nn.Linear(embed_dim * 2, width), nn.LayerNorm(width))
        self.feature = nn.Sequential(nn.Linear(embed_dim, embed_dim), nn.LayerNorm(embed_dim))

    def forward(self, boxes: Tensor, features: Tensor, group: QueryGroup) -> Queries:
        """Queries of boxes (B, N, 4) and features (B, N, C)."""
        sine = get_sine_pos_embed(boxes, self.embed_dim // 2, exchange_xy=False)
        *position, content = self.place(sine).split(self.embed_dim, -1)
        content = content + self.feature(features)
        return Queries(content, position[0] if position else None, boxes, (group,))


class AuxiliaryHeads(nn.Module):
    """Heads on the encoder's levels and one coarser level, and the queries of their positives.

    ``lambda_1``: weight of the decoder's losses for the positives; ``lambda_2``: weight of the
    heads' own losses, which count once per decoder layer (eq. 6). ``with_position``: see
    :class:`PositiveQueries`.
    """

    def __init__(
        self,
        heads: Sequence[nn.Module],
        embed_dim: int,
        num_decoder_layers: int,
        with_position: bool,
        lambda_1: float = 1.0,
        lambda_2: float = 2.0,
    ) -> None:
        super().__init__()
        self.coarser = nn.Sequential(
            nn.Conv2d(embed_dim, embed_dim, 3, stride=2, padding=1), nn.GroupNorm(32, embed_dim)
        )
        self.heads = nn.ModuleDict({head.name: head for head in heads})
        self.queries = nn.ModuleDict(
            {head.name: PositiveQueries(embed_dim, with_position) for head in heads}
        )
        self.positive_weight = lambda_1
        self.head_weight = lambda_2 * num_decoder_layers

    def forward(self, memory: Memory, targets: Sequence[dict]) -> list[Queries]:
        """Of each head a group of queries with the head's losses; targets with their image's "size"
        (height, width)."""
        levels, gt = self.levels(memory), pixel_instances(targets)
        outputs = [head(levels, gt) for head in self.heads.values()]
        counts = count_positives([candidates for _, candidates in outputs])
        groups = []
        for name, (losses, candidates), positives in zip(self.heads, outputs, counts, strict=True):
            chosen = choose(candidates, positives)
            group = self._group(f"_{name}", chosen.target, positives, sum(map(len, gt)))
            images = zip(chosen.boxes, gt, strict=True)
            boxes = torch.stack([_relative(xyxy, x.image_size) for xyxy, x in images])
            queries = self.queries[name](boxes, chosen.features, group)
            queries.losses = {key: loss * self.head_weight for key, loss in losses.items()}
            groups.append(queries)
        return groups

    def levels(self, memory: Memory) -> list[Tensor]:
        """The encoder's tokens as levels (B, C, H, W), finest first, and one coarser level."""
        tokens = memory.tokens.float()  # places would be rounded to the features' precision
        tokens = tokens.split([height * width for height, width in memory.shapes], 1)
        levels = [
            level.transpose(1, 2).unflatten(2, shape)
            for level, shape in zip(tokens, memory.shapes, strict=True)
        ]
        return [*levels, self.coarser(levels[-1])]

    def _group(self, name: str, target: Tensor, positives: Sequence[int], count: int) -> QueryGroup:
        """The group of queries whose targets (B, N) are known, -1 = background, those with one
        first: ``positives`` of each image; ``count`` is the number of all targets."""
        queries = [torch.arange(min(number, target.shape[1])) for number in positives]
        image = torch.tensor([len(x) for x in queries])
        image = torch.repeat_interleave(image, output_size=sum(map(len, queries)))
        image, query = send(torch.stack([image, torch.cat(queries)]), target.device).unbind()
        return QueryGroup(
            name,
            size=target.shape[1],
            copies=len(image) / max(count, 1),
            weight=self.positive_weight,
            assign=Matches(torch.zeros_like(image), image, query, target[image, query]),
            ranked=False,
        )


def _relative(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """xyxy in pixels (N, 4) to cxcywh in [0, 1] of an image of that height and width."""
    return (box_xyxy_to_cxcywh(boxes) / scale(size, boxes)).clamp(0, 1)


class Collaborative:
    """Adds ``auxiliary`` heads and the queries of their positives to a detector in training.

    ``soft_nms``: detections that overlap a better one of their class by at least this IoU lose
    score (:func:`.soft_nms.soft_nms`); None leaves all as they are.
    """

    def __init__(self, *, auxiliary: AuxiliaryHeads, soft_nms: float | None = None, **base) -> None:
        super().__init__(**base)
        if soft_nms is not None and not 0 <= soft_nms <= 1:
            raise ValueError(f"model.soft_nms is an IoU in [0, 1] or None, got {soft_nms}")
        self.auxiliary = auxiliary
        self.soft_nms = soft_nms

    def make_queries(self, memory: Memory, targets: list[dict] | None) -> Queries:
        queries = super().make_queries(memory, targets)
        if targets is not None:
            for positives in self.auxiliary(memory, targets):
                queries = queries.join(positives)
        return queries

    def select(
        self, logits: Tensor, boxes: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        images = super().select(logits, boxes, sizes)
        if self.soft_nms is None:
            return images
        for detections in images:  # overlap is that of what will be reported
            detections.pred_boxes.clip(detections.image_size)
        return [soft_nms(detections, self.soft_nms) for detections in images]

    def targets(self, batched_inputs: list[dict]) -> list[dict[str, Tensor]]:
        """Of each image also its "size" (height, width): the heads work in pixels."""
        sizes = [{"size": tuple(x["image"].shape[-2:])} for x in batched_inputs]
        targets = super().targets(batched_inputs)
        return [target | size for target, size in zip(targets, sizes, strict=True)]


class CoDeformableDETR(Collaborative, DeformableDETR):
    """Deformable DETR with collaborative heads."""


class CoDINO(Collaborative, DINO):
    """DINO with collaborative heads."""
