"""Deformable DETR (Zhu et al., ICLR 2021): iterative refinement and two-stage by switches.

Legend: B images, N queries, C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detrex.compat.repeated import check_repeated
from detrex.modeling.criterion import Predictions
from detrex.modeling.detector import Detector
from detrex.modeling.heads import build_shared_heads
from detrex.modeling.queries import Queries, QueryGroup, as_groups, query_count
from detrex.modeling.transformer import DeformableTransformer, Memory, Proposals
from detrex.utils.arguments import keep_arguments


class DeformableDETR(Detector):
    """Points or proposals as queries, refined layer by layer.

    ``with_box_refine``: each layer moves the boxes of the one before; ``as_two_stage``: queries
    start at the encoder's best boxes; ``mixed_selection``: these give positions only, contents are
    learned (DINO, section 3.4). ``groups`` replaces the one group of ``num_queries``.
    ``iou_branch``, ``iou_weight``, ``nms_iou``: see
    :meth:`~detrex.modeling.detector.Detector.finish`.
    ``device`` has no effect: the model is where it was moved to.

    Raises:
        ValueError: if a value that upstream's configs repeat in ``transformer`` disagrees.
    """

    published_optimizer = (
        "AdamW, lr 2e-4, 0.1x on backbone, reference_points and sampling_offsets,"
        " weight decay 1e-4 on every parameter"
    )

    @keep_arguments
    def __init__(
        self,
        backbone: nn.Module,
        position_embedding: nn.Module,
        neck: nn.Module,
        transformer: DeformableTransformer,
        embed_dim: int,
        num_classes: int,
        num_queries: int,
        criterion: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        aux_loss: bool = True,
        with_box_refine: bool = False,
        as_two_stage: bool = False,
        select_box_nums_for_evaluation: int = 100,
        device: str = "cuda",
        mixed_selection: bool = False,
        groups: Sequence[QueryGroup] = (),
        iou_branch: bool = False,
        iou_weight: float = 0.3,
        nms_iou: float | None = None,
    ) -> None:
        super().__init__(backbone, position_embedding, neck, pixel_mean, pixel_std)
        self.groups = as_groups(groups, num_queries)
        total = query_count(self.groups)
        stages = {"two_stage_num_proposals": total, "mixed_selection": mixed_selection}
        check_repeated("transformer", transformer, as_two_stage=as_two_stage)
        check_repeated("transformer", transformer, **(stages if as_two_stage else {}))
        self.as_two_stage, self.mixed_selection = as_two_stage, mixed_selection
        if not as_two_stage or mixed_selection:  # position and content, or content alone
            self.query_embedding = nn.Embedding(total, embed_dim * (1 if as_two_stage else 2))
        self.transformer = transformer
        self._add_heads(embed_dim, num_classes, with_box_refine)
        self.finish(
            criterion, aux_loss, select_box_nums_for_evaluation, iou_branch, iou_weight, nms_iou
        )

    def _add_heads(self, embed_dim: int, num_classes: int, refine: bool) -> None:
        """Add a head for each layer; without ``refine`` all share one."""
        decoder = self.transformer.decoder
        heads = dict(refine=refine, two_stage=self.as_two_stage)
        self.class_embed, self.bbox_embed = build_shared_heads(
            decoder, embed_dim, num_classes, **heads
        )
        self.heads_refine = refine
        if self.as_two_stage and refine:
            self.class_agnostic_head = f"class_embed.{decoder.num_layers}"

    def make_queries(self, memory: Memory, targets: list[dict] | None) -> Queries:
        groups = self.active_groups
        total, batch = query_count(groups), memory.tokens.shape[0]
        if not self.as_two_stage:
            position, content = self._learned(total, batch).chunk(2, -1)
            boxes = self.transformer.reference_points(position).float().sigmoid()  # (B, N, 2)
            return Queries(content, position, boxes, groups)
        candidates = self.transformer.propose(memory, self.class_embed[-1])
        return self.start(
            candidates, self.bbox_embed[-1], groups, None if targets is None else "_enc"
        )

    def start(
        self,
        candidates: Proposals,
        box_head: nn.Module,
        groups: Sequence[QueryGroup],
        name: str | None,
    ) -> Queries:
        """Queries at the best proposals; ``name``: suffix of the losses of all proposals, None: no
        losses."""
        total = query_count(groups)
        top = candidates.top(total, self.proposal_scores(candidates, box_head))
        start = top.boxes(box_head).detach()  # (B, N, 4) before the sigmoid
        position, content = self.transformer.embed_boxes(start)
        if self.mixed_selection:
            content = self._learned(total, start.shape[0])
        queries = Queries(content, position, start.sigmoid(), groups)
        if name is not None:  # only the loss asks for a box at every token
            boxes = candidates.boxes(box_head).sigmoid()
            logits = candidates.logits
            supervised = Predictions.of_encoder(logits, boxes, class_agnostic=True, name=name)
            queries.proposals = (supervised,)
        return queries

    def proposal_scores(self, candidates: Proposals, box_head: nn.Module) -> Tensor:
        """Logits (B, S) by which proposals are chosen, the highest first."""
        return candidates.logits[..., 0]

    def _learned(self, total: int, batch: int) -> Tensor:
        return self.query_embedding.weight[:total].expand(batch, -1, -1)
