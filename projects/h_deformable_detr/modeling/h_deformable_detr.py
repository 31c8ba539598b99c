"""H-Deformable-DETR (Jia et al., CVPR 2023): a one-to-many branch beside the one-to-one queries.

In the second query group ``k_one2many`` queries are matched to every target. It trains the shared
weights and is dropped at inference.
"""

from __future__ import annotations

from detrex.modeling.queries import QueryGroup
from detrex.modeling.transformer import DeformableDecoder
from detrex.utils.arguments import keep_arguments
from projects.deformable_detr.modeling import DeformableDETR


class HDeformableDetrTransformerDecoder(DeformableDecoder):
    """Deformable decoder that looks forward twice by default."""

    def __init__(self, *, look_forward_twice: bool = True, **deformable) -> None:
        super().__init__(look_forward_twice=look_forward_twice, **deformable)


class HDeformableDETR(DeformableDETR):
    """Deformable DETR with ``num_queries_one2many`` queries that match each target k times.

    Their losses are weighted by ``lambda_one2many``; ``k_one2many=0`` switches the branch off.
    The other arguments are Deformable DETR's.
    """

    @keep_arguments
    def __init__(
        self,
        *,
        num_queries_one2one: int,
        num_queries_one2many: int,
        mixed_selection: bool = True,
        k_one2many: int = 6,
        lambda_one2many: float = 1.0,
        **deformable,
    ) -> None:
        one2many = QueryGroup(
            "_one2many", num_queries_one2many, copies=k_one2many, weight=lambda_one2many
        )
        super().__init__(
            num_queries=num_queries_one2one,
            mixed_selection=mixed_selection,
            groups=(QueryGroup(size=num_queries_one2one), one2many),
            **deformable,
        )
