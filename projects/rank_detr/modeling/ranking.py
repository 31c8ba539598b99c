"""The two parts of Rank-DETR that live in a model (Pu et al., NeurIPS 2023, section 3.2), for any
decoder and detector: the query rank layer and the rank-adaptive classification head.

Legend: B images, L layers, N queries, C channels, K classes.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detrex.compat.repeated import check_repeated
from detrex.modeling.predictions import Outputs
from detrex.modeling.queries import Queries, query_count, rank_order
from detrex.utils.arguments import keep_arguments


class QueryRankLayer(nn.Module):
    """Mixed into a decoder: sorts each ranked query group by score after a layer and fuses a
    learned embedding of the rank.

    Q = W_post [sort(Q); W_pre C], C indexed by rank. Queries that are not ranked (denoising) keep
    their place and go the same way with an embedding of zero. ``num_queries`` counts the ranked
    ones, of a group of equal blocks those of one block: blocks share their ranks' embeddings. With
    the rank-adaptive head alone they are sorted, not fused.
    """

    @keep_arguments
    def __init__(
        self,
        *,
        num_queries: int,
        rank_adaptive_classhead: bool = True,
        query_rank_layer: bool = True,
        **decoder,
    ) -> None:
        super().__init__(**decoder)
        self.num_queries, self.rank_adaptive_classhead = num_queries, rank_adaptive_classhead
        self.sorts = rank_adaptive_classhead or query_rank_layer
        self.fuses = query_rank_layer
        if self.fuses:
            gaps, dim = range(self.num_layers - 1), self.embed_dim
            self.rank_aware_content_query = nn.ModuleList(
                nn.Embedding(num_queries, dim) for _ in gaps
            )
            self.pre_racq_trans = nn.ModuleList(nn.Linear(dim, dim) for _ in gaps)
            self.post_racq_trans = nn.ModuleList(nn.Linear(dim * 2, dim) for _ in gaps)

    def after_layer(self, i: int, queries: Queries, logits: Tensor) -> Queries:
        if not self.sorts:
            return queries
        queries = queries.reorder(rank_order(logits, queries.groups))
        if not self.fuses:
            return queries
        table = rank_rows(self.rank_aware_content_query[i].weight, queries)
        rank = self.pre_racq_trans[i](table)  # (N, C)
        both = torch.cat([queries.content, rank.expand(queries.content.shape[0], -1, -1)], -1)
        return replace(queries, content=self.post_racq_trans[i](both))


class RankAdaptiveClassHead(nn.Module):
    """Mixed into a detector: a learned (rank, class) bias of every layer's logits.

    As in the released code the ranking itself does not see the bias.

    Raises:
        ValueError: the decoder's switch or number of queries is not the detector's.
    """

    def __init__(
        self, *, rank_adaptive_classhead: bool = True, num_classes: int, **detector
    ) -> None:
        super().__init__(num_classes=num_classes, **detector)
        self.rank_adaptive_classhead = rank_adaptive_classhead
        repeated = {
            "num_queries": query_count([group.one_block for group in self.groups]),
            "rank_adaptive_classhead": rank_adaptive_classhead,
        }
        check_repeated("transformer.decoder", self.transformer.decoder, **repeated)
        if rank_adaptive_classhead:
            biases = torch.zeros(repeated["num_queries"], num_classes)
            self.rank_adaptive_classhead_emb = nn.ModuleList(
                nn.Embedding(*biases.shape, _weight=biases.clone())
                for _ in range(self.transformer.decoder.num_layers)
            )

    def decode(self, queries: Queries, memory: object) -> Outputs:
        outputs = super().decode(queries, memory)
        if not self.rank_adaptive_classhead:
            return outputs
        # Inference may end before the last layer.
        tables = self.rank_adaptive_classhead_emb[: len(outputs.logits)]
        biases = torch.stack([rank_rows(table.weight, queries) for table in tables])  # (L, N, K)
        return outputs._replace(logits=outputs.logits + biases[:, None])


def rank_rows(table: Tensor, queries: Queries) -> Tensor:
    """A table's row for each query (N, ...), by rank; zero for queries that are not ranked."""
    ranked = [group for group in queries.groups if group.ranked]  # they come first
    sizes = [group.one_block.size for group in ranked]
    rows = [
        rows.repeat(group.blocks, 1)
        for group, rows in zip(ranked, table[: sum(sizes)].split(sizes), strict=True)
    ]
    unranked = queries.content.shape[1] - query_count(ranked)
    return F.pad(torch.cat([table[:0], *rows]), (0, 0, 0, unranked))
