"""The one detector: images -> features -> queries -> predictions -> losses | Instances.

Legend: B images, L layers, N queries, C channels, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.structures import Instances
from torch import Tensor, nn

from detrex.layers import box_xyxy_to_cxcywh
from detrex.layers.folded_norm import fold_norms
from detrex.modeling.criterion import Predictions, SetCriterion
from detrex.modeling.heads import Decoded, Heads
from detrex.modeling.postprocess import (
    Best,
    as_instances,
    best_pairs,
    fuse_iou,
    resize_to_original,
)
from detrex.modeling.queries import Queries, QueryGroup, spans


class Images(NamedTuple):
    """pixels (B, 3, H, W), normalised; mask (B, H, W), True = padding; sizes without padding."""

    pixels: Tensor
    mask: Tensor
    sizes: list[tuple[int, int]]


def pad_and_stack(tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Tensors (C, H, W) of any sizes as (B, C, H, W) and a mask (B, H, W), True = padding."""
    height, width = (max(t.shape[side] for t in tensors) for side in (1, 2))
    batch = tensors[0].new_zeros(len(tensors), len(tensors[0]), height, width)
    mask = torch.ones(len(tensors), height, width, dtype=torch.bool, device=batch.device)
    for i, tensor in enumerate(tensors):
        h, w = tensor.shape[1:]
        batch[i, :, :h, :w] = tensor
        mask[i, :h, :w] = False
    return batch, mask


def check_repeated(part: str, module: nn.Module, **values: object) -> None:
    """Values that upstream's configs repeat in a part of the model must agree with the model's.

    An attribute that is missing or None follows the model.

    Raises:
        ValueError: naming the key, what it is and what the model needs.
    """
    for name, value in values.items():
        given = getattr(module, name, None)
        if given not in (None, value):
            raise ValueError(f"model.{part}.{name} is {given}, the model needs {value}")


def _check_criterion(criterion: nn.Module) -> None:
    own = type(criterion)
    names = ("forward", "get_loss", "loss_labels", "loss_boxes")
    unused = [name for name in names if getattr(own, name) is not getattr(SetCriterion, name)]
    if unused and own.supervise is SetCriterion.supervise:
        raise ValueError(
            f"{own.__name__}.{unused[0]} would not be called: detectors call supervise() for all"
            " layers at once; override that, or loss_of() and pair_weights()"
        )


class Detector(nn.Module):
    """detectron2's contract: ``list[dict]`` in; a dict of losses (training) or Instances out.

    A subclass builds ``transformer``, ``class_embed`` and ``bbox_embed`` and calls :meth:`finish`;
    it says in ``groups`` which queries it has, and makes them in :meth:`make_queries`.
    """

    groups: tuple[QueryGroup, ...]
    transformer: nn.Module
    criterion: nn.Module
    heads_refine: bool = False
    class_agnostic_head: str | None = None  # name of the head whose row 0 stands for any object

    def __init__(
        self,
        backbone: nn.Module,
        position_embedding: nn.Module,
        neck: nn.Module | None,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        # Decoders of one level start from equal contents: their first gradients are differences
        # of nearly equal sums, of which upstream's order of rounding is part.
        if neck is not None:
            fold_norms(backbone)
            fold_norms(neck)
        self.backbone = backbone
        self.position_embedding = position_embedding
        self.neck = neck
        self.iou_embed: nn.ModuleList | None = None
        for name, value in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            tensor = torch.tensor(list(value), dtype=torch.float32).view(3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def finish(
        self,
        criterion: nn.Module,
        aux_loss: bool,
        select_box_nums_for_evaluation: int,
        iou_branch: bool,
        iou_weight: float,
    ) -> None:
        """What a subclass sets last: ``aux_loss`` supervises every layer, and at most
        ``select_box_nums_for_evaluation`` detections are kept of an image.

        ``iou_branch``: a head in every decoder layer predicts the IoU with the target (Align-DETR,
        table 4). ``iou_weight`` is its share of the score; 0 trains it without using it.

        Raises:
            ValueError: for a weight outside [0, 1], a branch beside a softmax over classes, or a
                criterion with losses of its own where they are not called.
        """
        _check_criterion(criterion)
        self.criterion = criterion
        self.aux_loss = aux_loss
        self.select_box_nums_for_evaluation = select_box_nums_for_evaluation
        self.iou_weight = iou_weight
        if not iou_branch:
            return
        if not 0 <= iou_weight <= 1:
            raise ValueError(f"model.iou_weight must be in [0, 1], got {iou_weight}")
        if criterion.class_loss is None:
            raise ValueError("model.iou_branch needs a sigmoid class loss, not 'ce_loss'")
        decoder = self.transformer.decoder
        layers = range(decoder.num_layers)
        self.iou_embed = nn.ModuleList(nn.Linear(decoder.embed_dim, 1) for _ in layers)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        images = self.preprocess(batched_inputs)
        targets = self.prepare_targets(batched_inputs) if self.training else None
        found, queries, proposals = self.predict(images, targets)
        if not self.training:
            results = self.select(self.scores(found), found.boxes[-1], images.sizes)
            return resize_to_original(results, batched_inputs)
        sets = self.supervised_sets(found, queries.groups)
        sets = sets if proposals is None else [*sets, proposals]
        with torch.autocast(self.device.type, enabled=False):
            losses = self.criterion.weighted(self.criterion.supervise(sets, targets))
        return {**losses, **queries.losses}

    def predict(
        self, images: Images, targets: list[dict] | None = None
    ) -> tuple[Decoded, Queries, Predictions | None]:
        """What all layers predict, the queries, and the encoder's proposals."""
        memory = self.encode(images)
        queries, proposals = self.make_queries(memory, targets)
        return self.decode(queries, memory), queries, proposals

    def make_queries(
        self, memory: object, targets: list[dict] | None
    ) -> tuple[Queries, Predictions | None]:
        """Queries for the decoder, and the encoder's proposals if they are to be supervised.

        ``targets`` are given in training only (denoising needs them).
        """
        raise NotImplementedError

    def select(
        self, logits: Tensor, boxes: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """Detections from the last layer's logits (B, N, K) and boxes (B, N, 4)."""
        return as_instances(self.best(logits, boxes), sizes)

    def best(self, logits: Tensor, boxes: Tensor) -> Best:
        """What is kept of the last layer's logits (B, N, K) and boxes (B, N, 4)."""
        return best_pairs(logits, boxes, self.select_box_nums_for_evaluation)

    def scores(self, found: Decoded, layer: int = -1) -> Tensor:
        """Logits (B, N, K) of a layer's scores, joined with the IoU branch's if there is one."""
        if found.iou_logits is None or not self.iou_weight:
            return found.logits[layer]
        return fuse_iou(found.logits[layer], found.iou_logits[layer], self.iou_weight)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities (B, N, K) in [0, 1] from :meth:`scores`."""
        return logits.float().sigmoid()

    def decode(self, queries: Queries, memory: object) -> Decoded:
        """Predictions of all layers."""
        return self.transformer.decoder(queries, memory, self.heads())

    def heads(self) -> Heads:
        """The heads of all decoder layers."""
        return Heads(self.class_embed, self.bbox_embed, self.heads_refine, self.iou_embed)

    @property
    def active_groups(self) -> tuple[QueryGroup, ...]:
        """Training uses every group that is supervised, inference one block of the primary one."""
        if not self.training:
            return (self.groups[0].one_block,)
        return tuple(group for group in self.groups if group.copies)

    def supervised_sets(self, found: Decoded, groups: Sequence[QueryGroup]) -> list[Predictions]:
        """The predictions cut into groups; without ``aux_loss`` only the last layer counts."""
        layers = slice(None) if self.aux_loss else slice(-1, None)

        def cut(x: Tensor | None, span: slice) -> Tensor | None:
            return None if x is None else x[layers, :, span]

        return [
            Predictions(
                cut(found.logits, span),
                cut(found.boxes, span),
                group,
                iou_logits=cut(found.iou_logits, span),
            )
            for group, span in zip(groups, spans(groups), strict=True)
        ]

    def preprocess(self, batched_inputs: list[dict]) -> Images:
        """Normalise and pad to the largest image; the mask knows the true sizes, also at eval
        (upstream ignores padding there, so its batched detections depend on the batch)."""
        pixels = [x["image"].to(self.device, non_blocking=True) for x in batched_inputs]
        sizes = [tuple(image.shape[-2:]) for image in pixels]
        batch, mask = pad_and_stack([(x - self.pixel_mean) / self.pixel_std for x in pixels])
        return Images(batch, mask, sizes)

    def encode(self, images: Images) -> object:
        """Backbone, neck and encoder."""
        return self.encode_levels(*self.levels(images))

    def encode_levels(self, features: Sequence[Tensor], masks: Sequence[Tensor]) -> object:
        """Features (B, C, H, W) of all levels and their padding masks (B, H, W), encoded."""
        positions = [self.position_embedding(mask).to(features[0].dtype) for mask in masks]
        return self.transformer.encode(features, masks, positions)

    def levels(self, images: Images) -> tuple[Sequence[Tensor], list[Tensor]]:
        """Feature levels (B, C, H, W), finest first, and their padding masks (B, H, W).

        At inference images of different sizes go through the backbone one by one: padding would
        change their borders and norm statistics, and detections would depend on the batch.
        """
        if self.training or len(set(images.sizes)) == 1:
            features = self.features(images.pixels)
            mask = images.mask[None].float()
            return features, [F.interpolate(mask, size=f.shape[-2:])[0].bool() for f in features]
        sizes = zip(images.pixels, images.sizes, strict=True)
        alone = [self.features(pixels[None, :, :h, :w]) for pixels, (h, w) in sizes]
        padded = [pad_and_stack([f[0] for f in level]) for level in zip(*alone, strict=True)]
        return [features for features, _ in padded], [mask for _, mask in padded]

    def features(self, pixels: Tensor) -> Sequence[Tensor]:
        """Normalised pixels (B, 3, H, W) to feature levels (B, C, H, W)."""
        return self.neck(self.backbone(pixels))

    def prepare_targets(self, batched_inputs: list[dict]) -> list[dict[str, Tensor]]:
        """Labels (G,) and boxes (G, 4) of each image, relative to its unpadded size."""
        instances = [x["instances"] for x in batched_inputs]
        counts = [len(x) for x in instances]
        boxes = torch.cat([x.gt_boxes.tensor.float() for x in instances])
        labels = torch.cat([x.gt_classes for x in instances])
        sides = (x["image"].shape[-2:] for x in batched_inputs)
        sizes = [(w, h, w, h) for (h, w), n in zip(sides, counts, strict=True) for _ in range(n)]
        boxes = box_xyxy_to_cxcywh(boxes / boxes.new_tensor(sizes).view_as(boxes))
        # All images' targets in one copy each, for which the host need not wait.
        parts = (x.to(self.device, non_blocking=True).split(counts) for x in (labels, boxes))
        return [{"labels": own, "boxes": place} for own, place in zip(*parts, strict=True)]
