"""How weights lie in memory: the one place that turns them into kernels and filters, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Layout:
    """How a weight holds its kernels: which axis is OUT, which is IN; the others are taps.

    A grouped convolution has weight (K, C / groups, *taps); a transposed one (C, K / groups, *taps).
    """

    out_axis: int
    in_axis: int
    groups: int = 1

    def kernels(self, weight: Tensor) -> Tensor:
        """View a weight as (groups, outputs per group, inputs per group, taps)."""
        both = sorted((self.out_axis, self.in_axis))
        taps = [axis for axis in range(weight.ndim) if axis not in both]
        weight = weight.permute(*both, *taps).flatten(2) if taps else weight.permute(*both).unsqueeze(-1)
        weight = weight.unflatten(0, (self.groups, -1))
        return weight if self.out_axis < self.in_axis else weight.transpose(1, 2)

    def weight(self, kernels: Tensor, like: Tensor) -> Tensor:
        """Undo `kernels`; tap sizes are those of `like`."""
        kernels = kernels if self.out_axis < self.in_axis else kernels.transpose(1, 2)
        both = sorted((self.out_axis, self.in_axis))
        taps = [axis for axis in range(like.ndim) if axis not in both]
        folded = kernels.flatten(0, 1)
        folded = folded.unflatten(2, [like.shape[a] for a in taps]) if taps else folded.squeeze(-1)
        order = [*both, *taps]
        return folded.permute([order.index(axis) for axis in range(like.ndim)]).contiguous()

    def filters(self, weight: Tensor) -> Tensor:
        """View a weight as (K, C / groups, P): filters, channels that each reads, positions in a kernel."""
        if self.out_axis < self.in_axis:  # as it lies: one call in the place of six, in every step
            return weight.flatten(2) if weight.ndim > 2 else weight.unsqueeze(-1)
        return self.kernels(weight).flatten(0, 1)

    def from_filters(self, filters: Tensor, like: Tensor) -> Tensor:
        """Undo `filters`; tap sizes are those of `like`."""
        if self.out_axis < self.in_axis:
            return filters.reshape(*filters.shape[:2], *like.shape[2:]).contiguous()
        return self.weight(filters.unflatten(0, (self.groups, -1)), like)


def layout_of(layer: nn.Module) -> Layout:
    """Return how a convolution, transposed or not, or a linear layer holds its weight."""
    settings: Any = layer
    transposed = getattr(settings, "transposed", False)
    return Layout(int(transposed), int(not transposed), getattr(settings, "groups", 1))
