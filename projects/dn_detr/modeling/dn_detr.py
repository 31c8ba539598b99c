"""DN-DETR (Li et al., CVPR 2022): DAB-DETR that also gives noisy copies of the targets back."""

from __future__ import annotations

from torch import Tensor

from detrex.layers import GenerateDNQueries
from detrex.modeling.denoising import plain_denoising
from detrex.modeling.queries import Queries
from detrex.modeling.transformer import DenseMemory
from detrex.utils.arguments import keep_arguments
from projects.dab_detr.modeling import DABDETR, DabDetrTransformer


class DNDETR(DABDETR):
    """Matching queries carry the embedding of the unknown label, denoising queries a noisy one.

    ``with_indicator``: the last channel of the content says whether a query is a denoising one.
    The other arguments are DAB-DETR's and :class:`detrex.layers.GenerateDNQueries`'s.

    Raises:
        ValueError: the transformer has patterns, which the embedding takes the place of.
    """

    @keep_arguments
    def __init__(
        self,
        *,
        transformer: DabDetrTransformer,
        embed_dim: int,
        num_classes: int,
        num_queries: int,
        with_indicator: bool = True,
        denoising_groups: int = 5,
        label_noise_prob: float = 0.2,
        box_noise_scale: float = 0.4,
        **dab,
    ) -> None:
        if transformer.num_patterns:
            raise ValueError("DN-DETR's contents are label embeddings: set num_patterns=0")
        generator = GenerateDNQueries(
            num_queries=num_queries,
            num_classes=num_classes + 1,  # the unknown label
            label_embed_dim=embed_dim,
            denoising_groups=denoising_groups,
            label_noise_prob=label_noise_prob,
            box_noise_scale=box_noise_scale,
            with_indicator=with_indicator,
        )
        super().__init__(
            transformer=transformer,
            embed_dim=embed_dim,
            num_classes=num_classes,
            num_queries=num_queries,
            before={"denoising_generator": generator},
            **dab,
        )

    def make_queries(self, memory: DenseMemory, targets: list[dict] | None) -> Queries:
        queries = super().make_queries(memory, targets)
        if targets is not None:
            queries = queries.join(plain_denoising(targets, self.denoising_generator))
        return queries

    def content(self, count: int) -> Tensor:
        unknown = self.denoising_generator.label_encoder.weight[-1]
        return self.denoising_generator.unmarked(unknown).expand(count, -1)
