"""DN-Deformable-DETR (DN-DETR, Li et al., CVPR 2022, on DAB-Deformable-DETR)."""

from __future__ import annotations

from dataclasses import replace

from detrex.layers import GenerateDNQueries
from detrex.modeling.denoising import plain_denoising
from detrex.modeling.queries import Queries
from detrex.utils.arguments import keep_arguments
from projects.dab_deformable_detr.modeling import DabDeformableDETR


class DNDeformableDETR(DabDeformableDETR):
    """DAB-Deformable-DETR that also gives ``denoising_groups`` noisy copies of the targets back.

    ``with_indicator``: the last channel of the content says whether a query is a denoising one.
    The other arguments are DAB-Deformable-DETR's.

    Raises:
        ValueError: with ``as_two_stage``, whose proposals leave no room for the indicator.
    """

    @keep_arguments
    def __init__(
        self,
        *,
        num_classes: int,
        num_queries: int,
        embed_dim: int = 256,
        as_two_stage: bool = False,
        denoising_groups: int = 5,
        label_noise_prob: float = 0.2,
        box_noise_scale: float = 0.4,
        with_indicator: bool = True,
        **dab,
    ) -> None:
        if as_two_stage and with_indicator:
            raise ValueError("model.with_indicator must be False if model.as_two_stage is True")
        super().__init__(
            num_classes=num_classes,
            num_queries=num_queries,
            embed_dim=embed_dim,
            as_two_stage=as_two_stage,
            content_dim=embed_dim - with_indicator,
            **dab,
        )
        self.denoising_generator = GenerateDNQueries(
            num_queries,
            num_classes + 1,  # the unknown label
            embed_dim,
            denoising_groups,
            label_noise_prob,
            box_noise_scale,
            with_indicator,
        )

    def extend(self, queries: Queries, targets: list[dict] | None) -> Queries:
        content = self.denoising_generator.unmarked(queries.content)
        queries = replace(queries, content=content)
        if targets is None:
            return queries
        return queries.join(plain_denoising(targets, self.denoising_generator))
