"""A layer with what follows it: a tensor that is added to its output, and an activation."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda y: F.relu(y, inplace=True),
    "relu6": lambda y: F.relu6(y, inplace=True),
    "silu": lambda y: F.silu(y, inplace=True),
    "hardswish": lambda y: F.hardswish(y, inplace=True),
}
"""Activations by name; each may write over what it is given."""


class FusedLayer(nn.Module):
    """y = activation(layer(x) + residual): a convolution or linear layer as it is, and its epilogue.

    Attributes:
        layer: gives a tensor of its own, which is written over.
        activation: a name in `ACTIVATE`; "": none.
    """

    def __init__(self, layer: nn.Module, activation: str = "") -> None:
        super().__init__()
        self.layer = layer
        self.activation = activation

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return the layer's output, the residual added to it, activated."""
        return finished(self.layer(x), residual, self.activation)

    def extra_repr(self) -> str:
        """Say which activation it has."""
        return f"activation={self.activation!r}"


def finished(y: Tensor, residual: Tensor | None, activation: str) -> Tensor:
    """Add a residual to a layer's output, which may be written over, and activate it."""
    if residual is not None:
        alike = residual.shape == y.shape and residual.dtype == y.dtype
        y = y.add_(residual) if alike else y + residual
    return ACTIVATE[activation](y) if activation else y
