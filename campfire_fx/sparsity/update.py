"""Updates: how the mask a rule proposes becomes the next mask."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Update = Callable[[Tensor, Tensor], Tensor]


def monotone(mask: Tensor, proposal: Tensor) -> Tensor:
    """Keep what both keep: once zero, always zero (Campfire, Algorithm 2)."""
    return mask & proposal
