"""Fine-grained distribution refinement (D-FINE, Peng et al., ICLR 2025, section 4.1).

A box is its reference box with four moved edges. The move of an edge is the mean of a distribution
over ``reg_max`` + 1 values W(n), dense around 0, in units of the reference's side / ``reg_scale``.

Legend: N queries, K classes, M matches, W values (bins); boxes are cxcywh in [0, 1], edges left,
top, right, bottom.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detrex.layers import MLP, box_cxcywh_to_xyxy, box_xyxy_to_cxcywh


def edge_values(reg_max: int, reg_scale: float, up: float) -> Tensor:
    """W(n) (reg_max + 1,), rising (eq. 3): zero in the middle, +-(s^i - 1) around it with the last
    of them at +-up * reg_scale, and twice that at both ends."""
    reach, half = up * reg_scale, reg_max // 2
    step = (reach + 1) ** (2 / (reg_max - 2))
    right = [step**i - 1 for i in range(half)] + [2 * reach]
    return torch.tensor([-x for x in reversed(right[1:])] + right)


class EdgeDistribution(nn.Module):
    """Between boxes and distributions of their edges around a reference box.

    ``reg_max``: even number of intervals; ``up``: farthest move but one, in sides of the reference;
    a larger ``reg_scale`` has values less dense around 0.
    """

    def __init__(self, reg_max: int = 32, reg_scale: float = 4.0, up: float = 0.5) -> None:
        super().__init__()
        self.bins, self.reg_scale = reg_max + 1, reg_scale
        self.register_buffer("values", edge_values(reg_max, reg_scale, up), persistent=False)

    def moves(self, corners: Tensor) -> Tensor:
        """Mean moves (..., 4) of the edges, outwards, from logits (..., 4 * W)."""
        p = corners.unflatten(-1, (4, self.bins)).softmax(-1)
        return (p * self.values).sum(-1)  # a matrix product would be rounded under autocast

    def boxes(self, reference: Tensor, corners: Tensor) -> Tensor:
        """Boxes (..., 4) from reference boxes (..., 4) and logits (..., 4 * W)."""
        left_top, right_bottom = (0.5 * self.reg_scale + self.moves(corners)).split(2, -1)
        centre, unit = reference[..., :2], reference[..., 2:] / self.reg_scale
        xyxy = torch.cat([centre - left_top * unit, centre + right_bottom * unit], -1)
        return box_xyxy_to_cxcywh(xyxy)

    @torch.no_grad()
    def targets(self, reference: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
        """The interval (M, 4) of each edge of boxes gt (M, 4), 0 to W - 2, and the share (M, 4) in
        [0, 1] of its right end; edges out of reach belong to the outermost value."""
        centre, unit = reference[:, :2], reference[:, 2:] / self.reg_scale + 1e-16
        low, high = box_cxcywh_to_xyxy(gt).split(2, -1)
        distance = torch.cat([(centre - low) / unit, (high - centre) / unit], -1)
        moves = distance - 0.5 * self.reg_scale
        left = torch.searchsorted(self.values, moves, right=True) - 1
        left = left.clamp(0, self.bins - 2)
        start, end = self.values[left], self.values[left + 1]
        return left, ((moves - start) / (end - start)).clamp(0, 1)


def fine_grained_loss(corners: Tensor, left: Tensor, share: Tensor) -> Tensor:
    """Fine-grained localisation loss without its weight (eq. 5), the sum (M,) over edges of the
    cross-entropy with both ends of the target's interval: logits (M, 4 * W), left and share (M, 4)
    as :meth:`EdgeDistribution.targets`."""
    log_p = corners.unflatten(-1, (4, -1)).log_softmax(-1)
    right = log_p.gather(-1, left[..., None] + 1)[..., 0]
    left = log_p.gather(-1, left[..., None])[..., 0]
    return -torch.lerp(left, right, share).sum(-1)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) at temperature T, mean (...) over the edges, of logits
    (..., 4 * W); no gradient flows into the teacher (eq. 7)."""
    student, teacher = (
        (x.unflatten(-1, (4, -1)) / temperature).log_softmax(-1)
        for x in (student, teacher.detach())
    )
    kl = F.kl_div(student, teacher, reduction="none", log_target=True)
    return temperature**2 * kl.sum(-1).mean(-1)


class QualityEstimate(nn.Module):
    """Location quality estimator (LQE): a logit of how sharp the four distributions are, which is
    added to those of all classes. Like GFLv2's (Li et al., CVPR 2021), from each edge's ``top``
    highest probabilities and their mean."""

    def __init__(self, top: int = 4, hidden_dim: int = 64) -> None:
        super().__init__()
        self.top = top
        self.mlp = MLP(4 * (top + 1), hidden_dim, 1, 2)
        nn.init.zeros_(self.mlp.layers[-1].weight)
        nn.init.zeros_(self.mlp.layers[-1].bias)

    def forward(self, corners: Tensor) -> Tensor:
        """Quality logits (..., 1) from logits (..., 4 * W)."""
        best = corners.unflatten(-1, (4, -1)).softmax(-1).topk(self.top, -1).values
        return self.mlp(torch.cat([best, best.mean(-1, keepdim=True)], -1).flatten(-2))
