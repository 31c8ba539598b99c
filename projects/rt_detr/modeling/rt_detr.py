"""RT-DETR (Zhao et al., CVPR 2024): a hybrid encoder in place of DINO's, the encoder's best tokens
as contents, and positions made from the boxes by an MLP. v2 (Lv et al. 2024) may read whole pixels.

Uncertainty-minimal query selection (section 4.3) is what the released code does: varifocal loss
with the IoU as target, of proposals too, so that a token's score tells class and place.

Legend: B images, N queries, C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from detrex.layers import MLP
from detrex.layers.ms_deform_attn import discrete_attention
from detrex.modeling.criterion import TwoStageCriterion
from detrex.modeling.queries import Queries
from detrex.modeling.train_sizes import TrainSizes
from detrex.modeling.transformer import DeformableDecoder, Memory, ProposesBoxes
from projects.dino.modeling import DINO


class RTDETRTransformerDecoder(DeformableDecoder):
    """Position = MLP(box), made anew for every layer; boxes look forward twice.

    ``eval_layers``: inference ends after that many layers (R50-m), None: all.
    ``discrete_sampling``: v2's reading of whole pixels instead of interpolation.
    """

    def __init__(
        self, *, eval_layers: int | None = None, discrete_sampling: bool = False, **deformable
    ) -> None:
        super().__init__(look_forward_twice=True, **deformable)
        self.eval_layers = eval_layers
        self.ref_point_head = MLP(4, 2 * self.embed_dim, self.embed_dim, 2)
        if discrete_sampling:
            for layer in self.layers:
                layer.attentions[1].attend = discrete_attention
                # Whole pixels do not move: no gradient, for which several processes would wait.
                layer.attentions[1].sampling_offsets.requires_grad_(False)

    def position(self, i: int, queries: Queries, memory: Memory) -> dict[str, Tensor]:
        return {
            "query_pos": self.ref_point_head(queries.boxes),
            "reference_points": memory.on_levels(queries.boxes),
        }


class RTDETRTransformer(ProposesBoxes, nn.Module):
    """The decoder, and what proposes boxes of the neck's tokens, which nothing encodes further."""

    tgt_embed = None  # contents are the proposals' tokens

    def __init__(self, decoder: DeformableDecoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.build_proposals(decoder.embed_dim)
        for linear in (self.enc_output, *decoder.ref_point_head.layers):
            nn.init.xavier_uniform_(linear.weight)


class RTDETR(TrainSizes, DINO):
    """DINO without its encoder, trained on batches of drawn sizes; as upstream, pixels are resized
    to the nearest."""

    def __init__(self, **dino) -> None:
        super().__init__(position_embedding=None, **dino)

    def encode_levels(self, features: Sequence[Tensor], masks: Sequence[Tensor]) -> Memory:
        return Memory.of_levels(features, masks)


class RTDETRCriterion(TwoStageCriterion):
    """Proposals have the decoder's class loss."""

    usual_set_losses: ClassVar = {}
