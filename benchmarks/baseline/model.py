"""Rank-DETR's training step and inference in the plain formulation of public implementations.

The parameters and the flow are the shipped model's; attention, norms and losses are replaced:
``grid_sample`` attention, self-attention of all queries under an (N, N) mask with its weights
stored, frozen norms behind their convolutions, one criterion call per layer, NCHW memory.

Legend: B images, S tokens, N queries, C channels, H heads, L levels, P points per level.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from benchmarks.baseline.attention import attention
from benchmarks.baseline.criterion import hybrid_losses
from detrex.layers import MultiheadAttention, MultiScaleDeformableAttention
from detrex.modeling.queries import isolation_mask


class PlainDeformableAttention(nn.Module):
    """Projections, softmax and sampling locations as separate steps, with the shipped module's
    parameters."""

    def __init__(self, ours: MultiScaleDeformableAttention) -> None:
        super().__init__()
        self.shape = ours.num_heads, ours.num_levels, ours.num_points
        for name, part in ours.named_children():
            self.add_module(name, part)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        *,
        query_pos: Tensor,
        key_padding_mask: Tensor,
        reference_points: Tensor,
        spatial_shapes: list[tuple[int, int]],
        **_: object,
    ) -> Tensor:
        """query (B, N, C), value (B, S, C), reference_points (B, N, L, 2 or 4)."""
        heads, levels, points = self.shape
        values = self.value_proj(query if value is None else value)
        values = values.masked_fill(key_padding_mask[..., None], 0.0).unflatten(-1, (heads, -1))
        positioned = query + query_pos
        offsets = self.sampling_offsets(positioned).unflatten(-1, (heads, levels, points, 2))
        weights = self.attention_weights(positioned).unflatten(-1, (heads, -1)).softmax(-1)
        weights = weights.unflatten(-1, (levels, points))
        reference = reference_points[:, :, None, :, None]
        if reference.shape[-1] == 2:
            sizes = torch.tensor([(w, h) for h, w in spatial_shapes], device=query.device)
            locations = reference + offsets / sizes[:, None]
        else:
            locations = reference[..., :2] + offsets / points * reference[..., 2:] * 0.5
        out = self.output_proj(attention(values, spatial_shapes, locations, weights))
        return self.dropout(out) + query


class PlainSelfAttention(nn.Module):
    """Every query with every query; the model sets ``mask`` (N, N), True = must not attend."""

    mask: Tensor | None = None

    def __init__(self, ours: MultiheadAttention) -> None:
        super().__init__()
        self.attn, self.proj_drop = ours.attn, ours.proj_drop

    def forward(self, query: Tensor, *_: object, query_pos: Tensor, **__: object) -> Tensor:
        """query and query_pos (B, N, C)."""
        positioned = query + query_pos
        out, _ = self.attn(positioned, positioned, query, attn_mask=self.mask, need_weights=True)
        return query + self.proj_drop(out)


SWAPS = {
    MultiScaleDeformableAttention: PlainDeformableAttention,
    MultiheadAttention: PlainSelfAttention,
}


class PlainRankDetr(nn.Module):
    """A copy of a Rank-DETR of plain parts.

    Args:
        model: the shipped model; stays as it is.
        backbone: a fresh one of the same config, whose norms stand on their own.
    """

    def __init__(self, model: nn.Module, backbone: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        backbone.load_state_dict(model.backbone.state_dict())
        self.model.backbone = backbone
        for module in list(self.model.modules()):
            for name, child in list(module.named_children()):
                if type(child) in SWAPS:
                    setattr(module, name, SWAPS[type(child)](child))
        self.model.to(memory_format=torch.contiguous_format)

    def forward(self, batch: list[dict]) -> dict[str, Tensor] | list[dict]:
        """The sum of all losses (training) or detections, as the shipped model's."""
        model, groups = self.model, self.model.active_groups
        mask = isolation_mask(groups, model.device)
        for module in model.modules():
            if isinstance(module, PlainSelfAttention):
                module.mask = mask
        if not self.training:
            return model(batch)
        targets = model.targets(batch)
        outputs, queries = model.run(model.encode(model.preprocess(batch)), targets)
        (encoder,) = queries.proposals
        primary, many = groups
        matcher = model.criterion.matcher
        late = (
            matcher.matcher_change_iter is not None and matcher.iter >= matcher.matcher_change_iter
        )
        return {
            "loss": hybrid_losses(
                (outputs.logits, outputs.boxes),
                (encoder.logits[0], encoder.boxes[0]),
                targets,
                one2one=primary.size,
                copies=many.copies,
                power=matcher.iou_order_alpha if late else None,
            )
        }


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: list[dict], max_norm: float = 0.1
) -> None:
    """One optimizer step."""
    optimizer.zero_grad()
    sum(model(batch).values()).backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
