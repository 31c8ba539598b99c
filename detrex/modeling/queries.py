"""Object queries and the groups they form.

Legend: B images, N queries, C channels, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, product
from typing import TYPE_CHECKING

import torch
from omegaconf import ListConfig, OmegaConf
from torch import Tensor

from detrex.layers.attention import Rows
from detrex.modeling.matcher.assignment import Matches

if TYPE_CHECKING:
    from detrex.modeling.predictions import Predictions


@dataclass(frozen=True)
class QueryGroup:
    """Queries that see only their own block, and the supervision they get.

    name: suffix of the group's losses; "" is the primary group, the one used at inference.
    size: number of queries.
    blocks: equal blocks of the group that do not see each other.
    sees: names of the other groups it may attend to.
    copies: number of queries matched to each target (H-DETR's ``k_one2many``); the losses are
        divided by as many times the number of targets. Of a known assignment it is the average; 0
        switches the group off.
    weight: factor of the group's losses (H-DETR's ``lambda_one2many``).
    assign: the known assignment of a layer (denoising); None: the matcher makes it.
    ranked: whether its queries may be re-ordered by score.
    one_to_many: the criterion's one-to-many matcher says how many queries answer for each target,
        and which; the normaliser still grows with ``copies``.
    number_last: "loss_class_dn_0" instead of "loss_class_0_one2many" (both as upstream).
    number_all: the last layer's losses carry a number, too.

    A group with a known assignment may be empty: a batch without objects has nothing to denoise.
    """

    name: str = ""
    size: int = 300
    blocks: int = 1
    sees: tuple[str, ...] = ()
    copies: float = 1
    weight: float = 1.0
    assign: Matches | None = None
    ranked: bool = True
    number_last: bool = False
    number_all: bool = False
    one_to_many: bool = False

    def __post_init__(self) -> None:
        smallest = 1 if self.assign is None else 0
        if self.size < smallest or self.size % self.blocks:
            raise ValueError(
                f"query group {self.name!r}: size {self.size} is not a positive multiple of"
                f" its {self.blocks} blocks"
            )

    def loss_name(self, kind: str, number: str) -> str:
        """Name of a loss of this group; ``number`` ("" or "_0") says which layer."""
        suffixes = (self.name, number) if self.number_last else (number, self.name)
        return "".join((f"loss_{kind}", *suffixes))

    @property
    def one_block(self) -> QueryGroup:
        """The group's first block as a group by itself."""
        return replace(self, size=self.size // self.blocks, blocks=1)


@dataclass
class Queries:
    """The decoder's queries; all groups are concatenated along N.

    Attributes:
        content: (B, N, C).
        position: (B, N, C), or None if the decoder makes it from the boxes.
        boxes: (B, N, 2 or 4), points or boxes around which attention looks; DETR has None.
        traced: the same boxes with the gradient of the box head that made them, to look forward
            twice (DINO, Zhang et al. 2023, section 3.5); else None.
        losses: weighted losses of the heads that chose the queries; the criterion's are added.
        proposals: predictions of the encoder, to be supervised as well.
        trail: boxes (B, N, 4) that the last two layers predicted, for box relations.
        routes: queries of further passes of the decoder's shared weights, each supervised like
            these, in training only.
        route: name of the pass that these are of, by which a layer knows what it does otherwise
            there; "" for the pass that inference has.
    """

    content: Tensor
    position: Tensor | None
    boxes: Tensor | None
    groups: tuple[QueryGroup, ...]
    traced: Tensor | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)
    proposals: tuple[Predictions, ...] = ()
    trail: tuple[Tensor, ...] = ()
    route: str = ""
    routes: tuple[Queries, ...] = ()

    def join(self, other: Queries) -> Queries:
        """These queries followed by ``other``; either both have a position, or none."""
        positions = [x for x in (self.position, other.position) if x is not None]
        return Queries(
            content=torch.cat([self.content, other.content], 1),
            position=torch.cat(positions, 1) if positions else None,
            boxes=torch.cat([self.boxes, other.boxes], 1),
            groups=self.groups + other.groups,
            losses={**self.losses, **other.losses},
            proposals=self.proposals + other.proposals,
            route=self.route,
            routes=self.routes + other.routes,
        )

    def reorder(self, order: Tensor) -> Queries:
        """The queries in another order, given as indices (B, N)."""
        return replace(
            self,
            content=reordered(self.content, order),
            position=reordered(self.position, order),
            boxes=reordered(self.boxes, order),
            traced=reordered(self.traced, order),
            trail=tuple(reordered(x, order) for x in self.trail),
        )


def reordered(x: Tensor | None, order: Tensor) -> Tensor | None:
    """Values (B, N, C) of queries in another order, given as indices (B, N)."""
    return None if x is None else x.gather(1, order[..., None].expand(-1, -1, x.shape[-1]))


def as_groups(groups: Sequence[QueryGroup], num_queries: int) -> tuple[QueryGroup, ...]:
    """The groups of a config, or one group of ``num_queries``.

    A config's list turns dataclasses into config nodes, which are turned back here.
    """
    if isinstance(groups, ListConfig):
        groups = OmegaConf.to_object(groups)
    return tuple(groups) or (QueryGroup(size=num_queries),)


def query_count(groups: Sequence[QueryGroup]) -> int:
    """Number of queries of all groups."""
    return sum(group.size for group in groups)


def spans(groups: Sequence[QueryGroup]) -> list[slice]:
    """Where each group stands along N."""
    ends = accumulate(group.size for group in groups)
    return [slice(end - group.size, end) for group, end in zip(groups, ends, strict=True)]


def isolation_mask(groups: Sequence[QueryGroup], device: torch.device) -> Tensor | None:
    """Self-attention mask (N, N), True = must not attend; None if all queries see each other."""
    if len(groups) == 1 and groups[0].blocks == 1:
        return None
    blocks, first = [], 0
    for group in groups:
        width = max(group.size // group.blocks, 1)
        blocks.append(torch.arange(group.size, device=device) // width + first)
        first += group.blocks
    block = torch.cat(blocks)  # (N,), counted over all groups
    mask = block[:, None] != block
    named = list(zip(groups, spans(groups), strict=True))
    for (group, rows), (other, columns) in product(named, named):
        if other.name in group.sees:
            mask[rows, columns] = False
    return mask


def attention_rows(groups: Sequence[QueryGroup], device: torch.device) -> tuple[Rows, ...]:
    """The isolation mask as :class:`Rows`, one entry for each group with queries; only a group that
    sees others needs its rows of the mask."""
    mask = isolation_mask(groups, device) if any(group.sees for group in groups) else None
    return tuple(
        Rows(group.size, group.blocks)
        if mask is None or not group.sees
        else Rows(group.size, mask=mask[span])
        for group, span in zip(groups, spans(groups), strict=True)
        if group.size
    )


def rank_order(logits: Tensor, groups: Sequence[QueryGroup]) -> Tensor:
    """Query indices (B, N), best class score first inside each block of a ranked group; logits
    (B, N, K)."""
    scores = logits.detach().amax(-1)
    order = []
    for group, span in zip(groups, spans(groups), strict=True):
        if group.ranked:
            of_blocks = scores[:, span].unflatten(1, (group.blocks, -1))
            ranking = of_blocks.argsort(dim=-1, descending=True, stable=True)
            first = torch.arange(span.start, span.stop, ranking.shape[-1], device=scores.device)
            order.append((ranking + first[:, None]).flatten(1))
        else:
            unranked = torch.arange(span.start, span.stop, device=scores.device)
            order.append(unranked.expand(scores.shape[0], -1))
    return torch.cat(order, 1)
