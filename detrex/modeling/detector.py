"""The one detector: images -> features -> queries -> predictions -> losses | Instances.

Legend: B images, L layers, N queries, C channels, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.structures import Instances
from detectron2.utils.logger import log_first_n
from torch import Tensor, nn

from detrex.compat.detector import UpstreamMethods
from detrex.compat.layerwise import losses_layer_by_layer
from detrex.compat.overrides import followed, ours, overridden, refuse, refuses
from detrex.layers.folded_norm import fold_norms
from detrex.modeling.criterion import Predictions
from detrex.modeling.heads import Decoded, Heads
from detrex.modeling.padding import pad_and_stack, padding
from detrex.modeling.postprocess import (
    Best,
    as_instances,
    best_pairs,
    fuse_iou,
    resize_to_original,
)
from detrex.modeling.queries import Queries, QueryGroup, spans

SLOWER = "The losses are computed layer by layer, as upstream does, for {}(); this is slower"


class Images(NamedTuple):
    """pixels (B, 3, H, W), normalised; mask (B, H, W), True = padding; sizes without padding."""

    pixels: Tensor
    mask: Tensor
    sizes: list[tuple[int, int]]


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


@refuses("model")
class Detector(UpstreamMethods, nn.Module):
    """detectron2's contract: ``list[dict]`` in; a dict of losses (training) or Instances out.

    A subclass builds ``transformer``, ``class_embed`` and ``bbox_embed`` and calls :meth:`finish`;
    it says in ``groups`` which queries it has, and makes them in :meth:`make_queries`.
    """

    groups: tuple[QueryGroup, ...]
    transformer: nn.Module
    criterion: nn.Module
    heads_refine: bool = False
    passes_dn_metas = False  # as DINO gives denoising queries to a criterion that works by layer
    follows_decoder = False  # whether a decoder may have upstream's arguments
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
            ValueError: for a weight outside [0, 1], or a branch beside a softmax over classes or a
                criterion that is not ours.
            InputError: for a part with a method of upstream's that cannot be called.
        """
        refuse(self)
        self.criterion = criterion
        self.aux_loss = aux_loss
        self.select_box_nums_for_evaluation = select_box_nums_for_evaluation
        self.iou_weight = iou_weight
        if not iou_branch:
            return
        if not 0 <= iou_weight <= 1:
            raise ValueError(f"model.iou_weight must be in [0, 1], got {iou_weight}")
        if getattr(criterion, "query_loss", None) is None:
            raise ValueError("model.iou_branch needs our criterion with a sigmoid class loss")
        decoder = self.transformer.decoder
        layers = range(decoder.num_layers)
        self.iou_embed = nn.ModuleList(nn.Linear(decoder.embed_dim, 1) for _ in layers)

    @ours
    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        if overridden(self, ("forward",)):  # which calls this one
            refuse(self, runs=True)
        images = self.preprocess(batched_inputs)
        targets = self.targets(batched_inputs) if self.training else None
        found, queries, proposals = self.predict(images, targets)
        if not self.training:
            results = self.inference(self.scores(found), found.boxes[-1], images.sizes)
            return resize_to_original(results, batched_inputs)
        sets = self.supervised_sets(found, queries.groups)
        sets = sets if proposals is None else [*sets, proposals]
        with torch.autocast(self.device.type, enabled=False):
            return {**self.losses(sets, targets), **queries.losses}

    def losses(self, sets: Sequence[Predictions], targets: list[dict]) -> dict[str, Tensor]:
        """The weighted losses of all sets; layer by layer if a part has methods that ask for it."""
        if methods := followed(self):
            log_first_n(logging.INFO, SLOWER.format(methods[0]), key="message")
            return losses_layer_by_layer(self, sets, targets)
        return self.criterion.weighted(self.criterion.supervise(sets, targets))

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
        images = self.preprocess_image(batched_inputs)
        sizes = [tuple(size) for size in images.image_sizes]
        return Images(images.tensor, padding(images.tensor, sizes), sizes)

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

    def targets(self, batched_inputs: list[dict]) -> list[dict[str, Tensor]]:
        """Labels (G,) and boxes (G, 4) of each image, relative to its unpadded size."""
        instances = [x["instances"] for x in batched_inputs]
        if overridden(self, ("prepare_targets",)):  # it may compute on the model's device
            instances = [x.to(self.device) for x in instances]
        return self.prepare_targets(instances)
