"""Group-DETR (Chen et al., ICCV 2023) on Conditional DETR: K groups of queries train one decoder.

Each group sees only itself and is matched one-to-one by itself; inference keeps the first group.

Legend: B images, N queries of all groups, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from detrex.compat.layerwise import fold_blocks
from detrex.compat.overrides import built_in
from detrex.compat.repeated import check_repeated
from detrex.layers import ConditionalCrossAttention, ConditionalSelfAttention
from detrex.modeling.criterion import SetCriterion
from detrex.modeling.matcher.matcher import Targets
from detrex.modeling.queries import QueryGroup
from detrex.modeling.transformer import ConditionalDecoder
from detrex.utils.arguments import keep_arguments
from projects.conditional_detr.modeling import ConditionalDETR


class GroupConditionalSelfAttention(ConditionalSelfAttention):
    """Conditional self-attention; its decoder keeps the ``group_nums`` groups of queries apart.

    Upstream's groups see each other.
    """

    def __init__(self, *args, group_nums: int = 11, **conditional) -> None:
        super().__init__(*args, **conditional)
        self.group_nums = group_nums


class GroupDetrTransformerDecoder(ConditionalDecoder):
    """Conditional decoder; upstream's configs repeat the model's ``group_nums`` here."""

    def __init__(self, *, group_nums: int = 11, **conditional) -> None:
        self_attention = partial(GroupConditionalSelfAttention, group_nums=group_nums)
        super().__init__(attentions=(self_attention, ConditionalCrossAttention), **conditional)
        self.group_nums = group_nums


class GroupSetCriterion(SetCriterion):
    """The usual criterion; upstream's configs repeat the model's ``group_nums`` here."""

    def __init__(
        self,
        num_classes: int,
        matcher: object,
        weight_dict: dict[str, float],
        group_nums: int = 11,
        losses: Sequence[str] = ("class", "boxes"),
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        super().__init__(num_classes, matcher, weight_dict, losses, alpha=alpha, gamma=gamma)
        self.group_nums = group_nums

    @built_in
    def forward(self, outputs: dict, targets: Targets, **options) -> dict:
        """Upstream's format; each group is matched like a separate image."""
        if self.training:
            outputs, targets = fold_blocks(outputs, self.group_nums), [*targets] * self.group_nums
        return super().forward(outputs, targets, **options)


class GroupDETR(ConditionalDETR):
    """Conditional DETR with ``group_nums`` groups of ``num_queries`` queries in training.

    Losses are divided by ``group_nums`` times the number of objects.

    Raises:
        ValueError: if the decoder's or the criterion's ``group_nums`` disagrees.
    """

    @keep_arguments
    def __init__(self, *, num_queries: int, group_nums: int = 11, **conditional) -> None:
        total = num_queries * group_nums
        group = QueryGroup(size=total, blocks=group_nums, copies=group_nums)
        super().__init__(num_queries=total, groups=(group,), **conditional)
        check_repeated("transformer.decoder", self.transformer.decoder, group_nums=group_nums)
        check_repeated("criterion", self.criterion, group_nums=group_nums)
