"""DINO (Zhang et al., ICLR 2023): the encoder's best boxes with learned contents, contrastive
denoising, and boxes that look forward twice.

Legend: B images, N queries, C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from torch import Tensor, nn

from detrex.modeling.denoising import contrastive_denoising
from detrex.modeling.queries import Queries
from detrex.modeling.transformer import AnchorBoxDecoder, MultiScaleTransformer, Proposals
from detrex.utils.arguments import keep_arguments
from projects.dab_deformable_detr.modeling import DabDeformableDETR


class DINOTransformerDecoder(AnchorBoxDecoder):
    """Anchor decoder with a final norm that the heads see."""

    def __init__(self, *, look_forward_twice: bool = True, **deformable) -> None:
        super().__init__(look_forward_twice=look_forward_twice, **deformable)
        self.norm = nn.LayerNorm(self.embed_dim)

    def readout(self, content: Tensor) -> Tensor:
        return self.norm(content)


class DINOTransformer(MultiScaleTransformer):
    """Two-stage transformer; ``learnt_init_query``: contents are learned (section 3.4)."""

    @keep_arguments
    def __init__(
        self,
        *,
        two_stage_num_proposals: int = 900,
        learnt_init_query: bool = True,
        **multi_scale,
    ) -> None:
        super().__init__(
            as_two_stage=True,
            two_stage_num_proposals=two_stage_num_proposals,
            learned_contents=two_stage_num_proposals if learnt_init_query else 0,
            **multi_scale,
        )


class DINO(DabDeformableDETR):
    """Two-stage detector with ``dn_number`` denoising pairs per target of an average image.

    ``label_noise_ratio`` and ``box_noise_scale`` are those of
    :func:`~detrex.modeling.denoising.contrastive_denoising`. ``input_format`` and ``vis_period``
    belong to upstream's pictures during training, which are not drawn here. The other arguments
    are DAB-Deformable-DETR's.
    """

    passes_dn_metas = True

    @keep_arguments
    def __init__(
        self,
        *,
        embed_dim: int,
        num_classes: int,
        dn_number: int = 100,
        label_noise_ratio: float = 0.2,
        box_noise_scale: float = 1.0,
        input_format: str = "RGB",
        vis_period: int = 0,
        **dab,
    ) -> None:
        super().__init__(embed_dim=embed_dim, num_classes=num_classes, as_two_stage=True, **dab)
        self.label_enc = nn.Embedding(num_classes, embed_dim)
        self.dn_number = dn_number
        self.label_noise_ratio = label_noise_ratio
        self.box_noise_scale = box_noise_scale

    def proposed_content(self, top: Proposals) -> Tensor:
        learned = self.transformer.tgt_embed
        if learned is None:
            return super().proposed_content(top)
        batch, count = top.tokens.shape[:2]
        return learned.weight[:count].expand(batch, -1, -1)

    def extend(self, queries: Queries, targets: list[dict] | None) -> Queries:
        if targets is None:
            return queries
        return queries.join(
            contrastive_denoising(
                targets,
                self.label_enc,
                self.dn_number,
                self.label_noise_ratio,
                self.box_noise_scale,
            )
        )
