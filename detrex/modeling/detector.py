"""The one detector: images -> features -> queries -> predictions -> losses | Instances.

Legend: B images, L layers, N queries, C channels, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.structures import ImageList, Instances
from detectron2.utils.logger import log_first_n
from torch import Tensor, nn

from detrex.compat.detector import UpstreamMethods
from detrex.compat.layerwise import losses_layer_by_layer
from detrex.compat.overrides import followed, overridden, refuse
from detrex.layers import box_xyxy_to_cxcywh
from detrex.layers.folded_norm import fold_norms
from detrex.modeling.heads import Heads
from detrex.modeling.iou_branch import IouBranch
from detrex.modeling.padding import pad_and_stack, padding
from detrex.modeling.postprocess import (
    Detections,
    as_instances,
    best_of_overlapping,
    best_pairs,
    resize_to_original,
)
from detrex.modeling.predictions import Outputs, Predictions
from detrex.modeling.queries import Queries, QueryGroup, spans

SLOWER = "The losses are computed layer by layer, as upstream does, for {}(); this is slower"


class Images(NamedTuple):
    """pixels (B, 3, H, W), normalised; mask (B, H, W), True = padding; sizes without padding."""

    pixels: Tensor
    mask: Tensor
    sizes: list[tuple[int, int]]


class Detector(IouBranch, UpstreamMethods, nn.Module):
    """detectron2's contract: ``list[dict]`` in; a dict of losses (training) or Instances out.

    A subclass builds ``transformer``, ``class_embed`` and ``bbox_embed`` and calls :meth:`finish`;
    it lists its queries in ``groups``, and makes them in :meth:`make_queries`.
    """

    groups: tuple[QueryGroup, ...]
    transformer: nn.Module
    criterion: nn.Module
    heads_refine: bool = False
    class_agnostic_head: str | None = None  # name of the class head whose row 0 means any object

    def __init__(
        self,
        backbone: nn.Module,
        position_embedding: nn.Module,
        neck: nn.Module | None,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        # Not for models of one level (no neck): their queries start from equal contents, and the
        # first gradients, differences of nearly equal sums, depend on the order of rounding.
        if neck is not None:
            fold_norms(backbone)
            fold_norms(neck)
        self.backbone = backbone
        self.position_embedding = position_embedding
        self.neck = neck
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
        nms_iou: float | None = None,
    ) -> None:
        """Set what needs the other modules; a subclass calls it last.

        Args:
            criterion: the training loss.
            aux_loss: supervise every decoder layer, not only the last.
            select_box_nums_for_evaluation: highest number of detections of an image.
            iou_branch: see :meth:`IouBranch.build_iou_branch`.
            iou_weight: as well.
            nms_iou: of detections of a class that overlap more, only the best is returned
                (non-maximum suppression); None returns all.

        Raises:
            ValueError: see :meth:`IouBranch.build_iou_branch`; ``nms_iou`` is not in (0, 1].
            InputError: a part overrides a method of upstream's that is not called here.
        """
        refuse(self)
        self.criterion = criterion
        self.aux_loss = aux_loss
        self.select_box_nums_for_evaluation = select_box_nums_for_evaluation
        self.build_iou_branch(iou_branch, iou_weight)
        is_iou = isinstance(nms_iou, int | float) and 0 < nms_iou <= 1
        if not (nms_iou is None or is_iou):
            raise ValueError(f"model.nms_iou is an IoU in (0, 1] or None, got {nms_iou!r}")
        self.nms_iou = nms_iou

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        images = self.preprocess(batched_inputs)
        targets = self.targets(batched_inputs) if self.training else None
        memory = self.encode(images)
        outputs, queries = self.run(memory, targets)
        if not self.training:
            detections = self.inference(self.scores(outputs), outputs.boxes[-1], images.sizes)
            return resize_to_original(detections, batched_inputs)
        sets = [*self.supervised_sets(outputs, queries.groups), *queries.proposals]
        for route in queries.routes:
            sets += self.route_sets(route, memory, outputs)
        with torch.autocast(self.device.type, enabled=False):
            return {**self.losses(sets, targets), **queries.losses}

    def preprocess(self, batched_inputs: list[dict]) -> Images:
        """Images, normalised and padded to the largest, with a padding mask at inference, too:
        upstream ignores padding there, so that its detections depend on the batch."""
        images = self.preprocess_image(batched_inputs)
        sizes = [tuple(size) for size in images.image_sizes]
        return Images(images.tensor, padding(images.tensor, sizes), sizes)

    def preprocess_image(self, batched_inputs: Sequence[dict]) -> ImageList:  # upstream's name
        """Normalised images, padded to the largest."""
        pixels = [x["image"].to(self.device, non_blocking=True) for x in batched_inputs]
        batch, _ = pad_and_stack([self.normalizer(x) for x in pixels])
        return ImageList(batch, [tuple(x.shape[-2:]) for x in pixels])

    def normalizer(self, image: Tensor) -> Tensor:  # upstream's name
        """Pixels (3, H, W) in [0, 255], normalised for the backbone."""
        return (image - self.pixel_mean) / self.pixel_std

    def targets(self, batched_inputs: list[dict]) -> list[dict[str, Tensor]]:
        """Labels (G,) and boxes (G, 4) of each image, relative to its unpadded size."""
        instances = [x["instances"] for x in batched_inputs]
        if overridden(self, ("prepare_targets",)):  # it may compute on the model's device
            instances = [x.to(self.device) for x in instances]
        return self.prepare_targets(instances)

    def prepare_targets(  # upstream's name
        self, targets: Sequence[Instances]
    ) -> list[dict[str, Tensor]]:
        """Labels (G,) and boxes (G, 4) of each image, relative to its unpadded size."""
        counts = [len(x) for x in targets]
        boxes = torch.cat([x.gt_boxes.tensor.float() for x in targets])
        labels = torch.cat([x.gt_classes for x in targets])
        sizes = [(x.image_size[1], x.image_size[0]) * 2 for x in targets for _ in range(len(x))]
        boxes = box_xyxy_to_cxcywh(boxes / boxes.new_tensor(sizes).view_as(boxes))
        # All images' targets in one copy each, for which the host need not wait.
        columns = (x.to(self.device, non_blocking=True).split(counts) for x in (labels, boxes))
        return [{"labels": x, "boxes": y} for x, y in zip(*columns, strict=True)]

    def encode(self, images: Images) -> object:
        """The memory that the decoder reads, from backbone, neck and encoder."""
        return self.encode_levels(*self.levels(images))

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

    def encode_levels(self, features: Sequence[Tensor], masks: Sequence[Tensor]) -> object:
        """The memory, from the features (B, C, H, W) of all levels and their padding masks
        (B, H, W)."""
        positions = [self.position_embedding(mask).to(features[0].dtype) for mask in masks]
        return self.transformer.encode(features, masks, positions)

    def run(self, memory: object, targets: list[dict] | None = None) -> tuple[Outputs, Queries]:
        """The outputs of all decoder layers, and the queries from which they were made."""
        queries = self.make_queries(memory, targets)
        return self.decode(queries, memory), queries

    @property
    def active_groups(self) -> tuple[QueryGroup, ...]:
        """In training all groups that are supervised, at inference one block of the primary one."""
        if not self.training:
            return (self.groups[0].one_block,)
        return tuple(group for group in self.groups if group.copies)

    def make_queries(self, memory: object, targets: list[dict] | None) -> Queries:
        """Queries for the decoder, and the encoder's proposals if they are to be supervised.

        ``targets``, which denoising needs, are None at inference.
        """
        raise NotImplementedError

    def decode(self, queries: Queries, memory: object) -> Outputs:
        """The outputs of all decoder layers."""
        return self.transformer.decoder(queries, memory, self.heads())

    def heads(self) -> Heads:
        """The heads of all decoder layers; a single one is shared by all."""
        layers = self.transformer.decoder.num_layers
        class_embed, bbox_embed = (
            head if isinstance(head, nn.ModuleList) else [head] * layers
            for head in (self.class_embed, self.bbox_embed)
        )
        return Heads(class_embed, bbox_embed, self.heads_refine, self.iou_embed)

    def supervised_sets(self, outputs: Outputs, groups: Sequence[QueryGroup]) -> list[Predictions]:
        """The outputs cut into groups; without ``aux_loss`` only the last layer counts."""
        layers, sets = slice(None if self.aux_loss else -1, None), []
        for group, span in zip(groups, spans(groups), strict=True):
            logits, boxes, iou_logits = (x if x is None else x[layers, :, span] for x in outputs)
            sets.append(Predictions(logits, boxes, group, iou_logits=iou_logits))
        return sets

    def route_sets(self, route: Queries, memory: object, outputs: Outputs) -> list[Predictions]:
        """The supervised sets of a further pass of the decoder; ``outputs`` are the first's."""
        return self.supervised_sets(self.decode(route, memory), route.groups)

    def losses(self, sets: Sequence[Predictions], targets: list[dict]) -> dict[str, Tensor]:
        """The weighted losses of all sets."""
        if methods := followed(self):  # of parts that were written for upstream
            log_first_n(logging.INFO, SLOWER.format(methods[0]), key="message")
            return losses_layer_by_layer(self, sets, targets)
        return self.criterion.weighted(self.criterion.losses_of_sets(sets, targets))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities (B, N, K) in [0, 1] from :meth:`scores`."""
        return logits.float().sigmoid()

    def select(
        self, logits: Tensor, boxes: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """Detections from the last layer's logits (B, N, K) and boxes (B, N, 4)."""
        images = as_instances(self.best(logits, boxes), sizes)
        return [best_of_overlapping(detections, self.nms_iou) for detections in images]

    def best(self, logits: Tensor, boxes: Tensor) -> Detections:
        """The best detections of logits (B, N, K) and boxes (B, N, 4), as tensors."""
        return best_pairs(logits, boxes, self.select_box_nums_for_evaluation)
