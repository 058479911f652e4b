"""Granularities: which weights of a layer die together.

Each is a tile (see tiling.py) of the (K, C, P) view; the weights in one tile are a *group*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from campfire_fx.sparsity.tiling import Tile, tiles, untiles


@dataclass(frozen=True, slots=True)
class Granularity:
    """A weight as (groups, members); groups lie on a grid (a, b, c) along K, C and P."""

    name: str
    tile: Tile

    def __repr__(self) -> str:
        return self.name

    def split(self, weight: Tensor) -> Tensor:
        """View (K, C, P) as (a, b, c, members); groups at the edge are filled up with zeros."""
        return tiles(weight, self.tile, 0)

    def spread(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        """Give every weight the value of its group: (a, b, c) to (K, C, P) = `shape`."""
        return untiles(groups.unsqueeze(-1).expand(*groups.shape, self.members(shape)), self.tile, shape)

    def sizes(self, weight: Tensor) -> Tensor:
        """Count the weights of each group: (a, b, c), or (1, 1, 1) where all groups have as many."""
        divides = all(size is None or length % size == 0 for size, length in zip(self.tile, weight.shape, strict=True))
        if divides:
            return weight.new_full((1, 1, 1), self.members(weight.shape))
        return self.split(torch.ones_like(weight)).sum(-1)

    def members(self, shape: Sequence[int]) -> int:
        """Return how many weights of a layer (K, C, P) = `shape` one whole group has."""
        return math.prod(length if size is None else size for size, length in zip(self.tile, shape, strict=True))


ELEMENT = Granularity("element", (1, 1, 1))
KERNEL = Granularity("kernel", (1, 1, None))
FILTER = Granularity("filter", (1, None, None))
CHANNEL = Granularity("channel", (None, 1, None))
COLUMN = Granularity("column", (None, 1, 1))


def block(size: int) -> Granularity:
    """Square blocks of `size` outputs by `size` inputs, as in block-wise pruning of linear layers."""
    return Granularity(f"block {size}x{size}", (size, size, 1))


def column_block(size: int) -> Granularity:
    """Blocks of `size` neighbouring filters by one weight of each: W[size * i : size * (i + 1), c, r, s].

    It is the block that a vector register holds, at any position of the kernel (Elsen et al. 2020, arXiv 1911.09723).
    Where the filters are no multiple of `size`, the last block has those that are left.
    """
    return Granularity(f"1x{size}", (size, 1, 1))
