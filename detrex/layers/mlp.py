"""Feed-forward blocks."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from detrex.utils.arguments import keep_arguments
from detrex.utils.errors import AssertedError


class MLP(nn.Module):
    """``num_layers`` linear layers, ``activation`` between them: (..., input_dim) to (...,
    output_dim)."""

    activation: Callable[[Tensor], Tensor] = staticmethod(F.relu)

    @keep_arguments
    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int) -> None:
        super().__init__()
        widths = [input_dim] + [hidden_dim] * (num_layers - 1) + [output_dim]
        self.layers = nn.ModuleList(
            nn.Linear(i, o) for i, o in zip(widths[:-1], widths[1:], strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


class FFN(nn.Module):
    """The feed-forward block of a transformer layer, residual included: (..., embed_dim)."""

    @keep_arguments
    def __init__(
        self,
        embed_dim: int = 256,
        feedforward_dim: int = 1024,
        output_dim: int | None = None,
        num_fcs: int = 2,
        activation: nn.Module | None = None,
        ffn_drop: float = 0.0,
        fc_bias: bool = True,
        add_identity: bool = True,
    ) -> None:
        super().__init__()
        if num_fcs < 2:
            raise AssertedError(f"FFN needs num_fcs >= 2, got {num_fcs}")
        # One module object for all hidden layers, as upstream: a PReLU shares its slope, which the
        # state_dict lists here as well as in each layer.
        self.activation = activation = nn.ReLU(inplace=True) if activation is None else activation
        widths = [embed_dim] + [feedforward_dim] * (num_fcs - 1)
        hidden = [
            nn.Sequential(nn.Linear(i, o, bias=fc_bias), activation, nn.Dropout(ffn_drop))
            for i, o in zip(widths[:-1], widths[1:], strict=True)
        ]
        out = nn.Linear(feedforward_dim, output_dim or embed_dim, bias=fc_bias)
        self.layers = nn.Sequential(*hidden, out, nn.Dropout(ffn_drop))
        self.embed_dim = embed_dim
        self.add_identity = add_identity

    def forward(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        out = self.layers(x)
        if not self.add_identity:
            return out
        return out + (x if identity is None else identity)
