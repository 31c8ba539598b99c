"""Stable-DINO (Liu et al., ICCV 2023): DINO whose scores follow the boxes, in loss and matching
cost, and whose memory joins the outputs of all encoder layers.

Legend: B images, S tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detrex.modeling.denoising import contrastive_denoising
from detrex.modeling.matcher import PositionMatcher as StableDINOHungarianMatcher
from detrex.modeling.queries import Queries
from detrex.modeling.transformer import DeformableEncoder
from detrex.utils.arguments import keep_arguments
from projects.dino.modeling import DINO as PlainDINO
from projects.dino.modeling import DINOTransformer, DINOTransformerDecoder

__all__ = ["DINOTransformer", "DINOTransformerDecoder", "StableDINOHungarianMatcher"]
FUSIONS = ("none", "dense-fusion")


class StableDINOTransformerEncoder(DeformableEncoder):
    """Deformable encoder; "dense-fusion" (section 3.4) joins its input and the outputs of all
    layers in one linear layer.

    Raises:
        ValueError: an unknown ``multi_level_fusion``.
    """

    @keep_arguments
    def __init__(self, *, multi_level_fusion: str = "none", **deformable) -> None:
        super().__init__(**deformable)
        if multi_level_fusion not in FUSIONS:
            raise ValueError(
                f"encoder.multi_level_fusion is one of {FUSIONS}, got {multi_level_fusion!r}"
            )
        self.fusion_layer = None
        if multi_level_fusion == "dense-fusion":
            dim = self.embed_dim
            joined = nn.Linear(dim * (self.num_layers + 1), dim)
            nn.init.xavier_uniform_(joined.weight)
            nn.init.zeros_(joined.bias)
            self.fusion_layer = nn.Sequential(joined, nn.LayerNorm(dim))

    def fuse(self, outputs: Sequence[Tensor]) -> Tensor:
        if self.fusion_layer is None:
            return super().fuse(outputs)
        return self.fusion_layer(torch.cat([*outputs], -1))


class DINO(PlainDINO):
    """DINO; ``neg_step_type`` says how much further negative denoising boxes move: "none", not at
    all, or "add:1.0" of the noise, as in DINO. ``gdn_k`` copies of a target, one of them positive.

    Raises:
        ValueError: another ``neg_step_type``, or a ``gdn_k`` that is not 2.
    """

    @keep_arguments
    def __init__(self, *, gdn_k: int = 2, neg_step_type: str = "none", **dino) -> None:
        super().__init__(**dino)
        if gdn_k != 2:
            raise ValueError(f"model.gdn_k is 2, a positive and a negative copy, got {gdn_k}")
        self.negative_step = negative_step(neg_step_type)

    def extend(self, queries: Queries, targets: list[dict] | None) -> Queries:
        if targets is None:
            return queries
        noise = self.dn_number, self.label_noise_ratio, self.box_noise_scale, self.negative_step
        return queries.join(contrastive_denoising(targets, self.label_enc, *noise))


def negative_step(name: str) -> float:
    """ "none" -> 0.0, "add:1.0" -> 1.0."""
    kind, _, step = name.partition(":")
    try:
        return {"none": 0.0}[name] if kind != "add" else float(step)
    except (KeyError, ValueError):
        raise ValueError(f'model.neg_step_type is "none" or "add:1.0", got {name!r}') from None
