"""Scopes: which groups are ranked against each other.

A scope is a tile of the grid of groups; the groups in one tile form a *pool*, and the lowest of every pool die.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from campfire_fx.sparsity.tiling import Tile, tiles, untiles


@dataclass(frozen=True, slots=True)
class Scope:
    """A grid of group scores as (pools, groups in a pool)."""

    name: str
    tile: Tile

    def __repr__(self) -> str:
        return self.name

    def pools(self, scores: Tensor) -> Tensor:
        """View (a, b, c) as (pools, size). A pool at the edge that is not full holds inf only: it is left whole."""
        pools = tiles(scores, self.tile, torch.inf).flatten(0, 2)
        if pools.numel() > scores.numel():
            partial = tiles(torch.zeros_like(scores), self.tile, torch.inf).flatten(0, 2).amax(1, keepdim=True)
            pools = pools + partial
        return pools

    def grid(self, pools: Tensor, shape: Sequence[int]) -> Tensor:
        """Undo `pools`: (pools, size) back to the grid (a, b, c) = `shape`."""
        counts = [1 if size is None else -(-length // size) for size, length in zip(self.tile, shape, strict=True)]
        return untiles(pools.reshape(*counts, pools.shape[1]), self.tile, shape)


WITHIN_LAYER = Scope("layer", (None, None, None))
WITHIN_KERNEL = Scope("kernel", (1, 1, None))
WITHIN_CHANNEL = Scope("channel", (None, 1, None))
WITHIN_FILTER = Scope("filter", (1, None, None))


def runs(length: int) -> Scope:
    """Runs of `length` neighbouring input channels, as N:M sparsity counts them; a shorter last run stays whole."""
    return Scope(f"runs of {length}", (1, length, 1))
